-- What keeps leadership trustworthy when the database itself changes: see src/domain/life.rs.

-- One line for each term, written in the transaction that begins it: a version is granted once.
CREATE TABLE component_lease_history (
    -- The component, as in component_lease.
    component_name VARCHAR(253) NOT NULL COLLATE BINARY,
    -- The term: a fencing token, granted in strictly increasing order.
    version        BIGINT NOT NULL,
    -- The participant that led.
    holder_id      VARCHAR(255) NOT NULL COLLATE BINARY,
    -- When the term began: this machine's clock, ms since 1970 UTC.
    lease_time     BIGINT NOT NULL,
    -- Seconds that the term lasted without renewal.
    ttl            INTEGER NOT NULL,
    PRIMARY KEY (component_name, version)
);

-- No lower version follows a higher one.
CREATE TRIGGER component_lease_history_rises BEFORE INSERT ON component_lease_history
WHEN EXISTS (SELECT 1 FROM component_lease_history
             WHERE component_name = NEW.component_name AND version >= NEW.version)
BEGIN
    SELECT RAISE(ABORT, 'a later version was granted already');
END;

-- The terms that were there before the history.
INSERT INTO component_lease_history
SELECT component_name, CAST(version AS INTEGER), coalesce(holder_id, ''),
       CAST(coalesce(lease_time, 0) AS INTEGER), CAST(coalesce(ttl, 0) AS INTEGER)
FROM component_lease
WHERE version > 0;

-- Which life of which file this is. One row; never change or copy it by hand.
CREATE TABLE component_lease_store (
    -- Always 1.
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    -- The file that last began an epoch: its inode and time of birth, the boot of its machine, and the UUID of
    -- this row.
    identity TEXT    NOT NULL COLLATE BINARY,
    -- Counts the lives of this file, by date (seconds since 2026) from the second one on; versions of
    -- an epoch are above epoch * 1,000,000.
    epoch    BIGINT  NOT NULL,
    -- Whether somebody has waited long enough after this epoch began: later starters need not wait.
    settled  BOOLEAN NOT NULL,
    -- Seconds; the longest ttl of any lease here, and how long nothing is taken after a change.
    -- Stop all participants to change it.
    max_ttl  INTEGER NOT NULL CHECK (max_ttl BETWEEN 1 AND 3600),
    -- Tells these tables from any made before or elsewhere.
    uuid     TEXT    NOT NULL
);
