-- The lease itself: the wire format that other programs read and write too. No index on what a
-- renewal changes.
CREATE TABLE IF NOT EXISTS component_lease (
    component_name VARCHAR(253) NOT NULL
        COMMENT 'The thing of which exactly one instance may be active; compared byte by byte.',
    holder_id VARCHAR(255) NOT NULL
        COMMENT 'The participant that leads, unique for each start of its process; empty means nobody, and that alone means free.',
    lease_time BIGINT NOT NULL
        COMMENT 'When this term began: this database''s clock, ms since 1970 UTC. For people; nothing of component-lease decides by it.',
    renew_time BIGINT NOT NULL
        COMMENT 'The last renewal: this database''s clock, ms since 1970 UTC, always rising while held; 0 when released.',
    version BIGINT NOT NULL
        COMMENT 'The term: a fencing token, granted in strictly increasing order.',
    ttl INT NOT NULL
        COMMENT 'Seconds that a term lasts without renewal; fixed for the term.',
    PRIMARY KEY (component_name)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
    COMMENT = 'Who leads: one row per component, never deleted. Made by component-lease.';
