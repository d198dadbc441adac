-- What keeps leadership trustworthy when the database itself changes: see src/domain/life.rs.

-- One line for each term, written in the transaction that begins it: a version is granted once.
CREATE TABLE component_lease_history (
    component_name VARCHAR(253) COLLATE pg_catalog."C" NOT NULL,
    version        BIGINT NOT NULL,
    holder_id      VARCHAR(255) COLLATE pg_catalog."C" NOT NULL,
    lease_time     BIGINT NOT NULL,
    ttl            INTEGER NOT NULL,
    PRIMARY KEY (component_name, version)
);

COMMENT ON TABLE component_lease_history IS
    'One line for each term of each component, never deleted while the component lives: a version is granted once.';
COMMENT ON COLUMN component_lease_history.component_name IS 'The component, as in component_lease.';
COMMENT ON COLUMN component_lease_history.version IS 'The term: a fencing token, granted in strictly increasing order.';
COMMENT ON COLUMN component_lease_history.holder_id IS 'The participant that led.';
COMMENT ON COLUMN component_lease_history.lease_time IS
    'When the term began: this database''s clock, ms since 1970 UTC.';
COMMENT ON COLUMN component_lease_history.ttl IS 'Seconds that the term lasted without renewal.';

-- The statement that takes decided on a snapshot; this looks at what is there when it writes. So a row
-- that was inserted and deleted in between lets no lower version follow a higher one.
-- The table is the one that the trigger is on, whatever its schema is called: pg_restore has no search path.
CREATE OR REPLACE FUNCTION component_lease_history_rises() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    granted boolean;
BEGIN
    EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE component_name = $1 AND version >= $2)', TG_RELID::regclass)
        INTO granted USING NEW.component_name, NEW.version;
    IF granted THEN
        RAISE EXCEPTION USING ERRCODE = 'unique_violation', TABLE = 'component_lease_history',
            MESSAGE = 'a later version was granted already',
            HINT = 'To restore data alone, use pg_restore --data-only --disable-triggers.';
    END IF;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION component_lease_history_rises() IS
    'Refuses a term whose version is not above all earlier ones of its component.';

CREATE TRIGGER component_lease_history_rises BEFORE INSERT ON component_lease_history
    FOR EACH ROW EXECUTE FUNCTION component_lease_history_rises();

-- The terms that were there before the history.
INSERT INTO component_lease_history
SELECT component_name, version::bigint, pg_catalog."left"(coalesce(holder_id, ''), 255),
       coalesce(lease_time, 0)::bigint, coalesce(ttl, 0)::integer
FROM component_lease
WHERE version OPERATOR(pg_catalog.>) 0 AND pg_catalog.length(component_name) OPERATOR(pg_catalog.<=) 253;

-- Which life of which database this is.
CREATE TABLE component_lease_store (
    id       SMALLINT PRIMARY KEY CHECK (id OPERATOR(pg_catalog.=) 1),
    identity pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
    epoch    BIGINT  NOT NULL,
    settled  BOOLEAN NOT NULL,
    max_ttl  INTEGER NOT NULL CHECK (max_ttl OPERATOR(pg_catalog.>=) 1 AND max_ttl OPERATOR(pg_catalog.<=) 3600),
    uuid     pg_catalog.uuid NOT NULL
);

COMMENT ON TABLE component_lease_store IS
    'One row: which life of which database this is. Never change (but for max_ttl) or copy it by hand; see component-lease epoch bump.';
COMMENT ON COLUMN component_lease_store.id IS 'Always 1.';
COMMENT ON COLUMN component_lease_store.identity IS
    'The server that last began an epoch: system identifier, timeline, start time (microseconds since 1970 UTC), and the UUID of this row; - for what it does not say.';
COMMENT ON COLUMN component_lease_store.epoch IS
    'Counts the lives of this database, by date (seconds since 2026) from the second one on; versions of an epoch are above epoch * 1,000,000.';
COMMENT ON COLUMN component_lease_store.settled IS
    'Whether somebody has waited long enough after this epoch began: later starters need not wait.';
COMMENT ON COLUMN component_lease_store.max_ttl IS
    'Seconds; the longest ttl of any lease here, and how long nothing is taken after a change. Stop all participants to change it.';
COMMENT ON COLUMN component_lease_store.uuid IS 'Tells these tables from any made before or elsewhere.';
