-- What keeps leadership trustworthy when the database itself changes: see src/domain/life.rs.

-- One line for each term, written in the transaction that begins it: a version is granted once.
CREATE TABLE IF NOT EXISTS component_lease_history (
    component_name VARCHAR(253) NOT NULL
        COMMENT 'The component, as in component_lease.',
    version BIGINT NOT NULL
        COMMENT 'The term: a fencing token, granted in strictly increasing order.',
    holder_id VARCHAR(255) NOT NULL
        COMMENT 'The participant that led.',
    lease_time BIGINT NOT NULL
        COMMENT 'When the term began: this database''s clock, ms since 1970 UTC.',
    ttl INT NOT NULL
        COMMENT 'Seconds that the term lasted without renewal.',
    PRIMARY KEY (component_name, version)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
    COMMENT = 'One line for each term of each component, never deleted while the component lives: a version is granted once.';

-- The terms that were there before the history; again without effect. Not IGNORE, which would also
-- write what does not fit.
INSERT INTO component_lease_history (component_name, version, holder_id, lease_time, ttl)
SELECT CONVERT(l.component_name USING utf8mb4), CAST(l.version AS SIGNED),
       LEFT(COALESCE(CONVERT(l.holder_id USING utf8mb4), ''), 255),
       CAST(COALESCE(l.lease_time, 0) AS SIGNED),
       LEAST(GREATEST(CAST(COALESCE(l.ttl, 0) AS SIGNED), 0), 2147483647)
FROM component_lease AS l
WHERE l.version > 0 AND CHAR_LENGTH(l.component_name) <= 253
ON DUPLICATE KEY UPDATE ttl = component_lease_history.ttl;

-- Which life of which database this is.
CREATE TABLE IF NOT EXISTS component_lease_store (
    id SMALLINT NOT NULL
        COMMENT 'Always 1.',
    identity VARCHAR(500) NOT NULL
        COMMENT 'The server that last began an epoch: MySQL''s server_uuid, or MariaDB''s server_id, host name and port; its start time (seconds since 1970 UTC); and the UUID of this row.',
    epoch BIGINT NOT NULL
        COMMENT 'Counts the lives of this database, by date (seconds since 2026) from the second one on; versions of an epoch are above epoch * 1,000,000.',
    settled BOOLEAN NOT NULL
        COMMENT 'Whether somebody has waited long enough after this epoch began: later starters need not wait.',
    max_ttl INT NOT NULL
        COMMENT 'Seconds; the longest ttl of any lease here, and how long nothing is taken after a change. Stop all participants to change it.',
    uuid CHAR(36) NOT NULL
        COMMENT 'Tells these tables from any made before or elsewhere.',
    PRIMARY KEY (id),
    CONSTRAINT component_lease_store_one CHECK (id = 1),
    CONSTRAINT component_lease_store_max_ttl CHECK (max_ttl BETWEEN 1 AND 3600)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
    COMMENT = 'One row: which life of which database this is. Never change (but for max_ttl) or copy it by hand; see component-lease epoch bump.';
