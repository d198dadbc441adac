-- The lease itself: the wire format that other programs read and write too.
--
-- Operators and functions are named with their schema, here and in the steps that follow: an operator that
-- somebody made in a schema of the search path could fit better, and would be used from then on.
CREATE TABLE component_lease (
    component_name VARCHAR(253) COLLATE pg_catalog."C" PRIMARY KEY,
    holder_id      VARCHAR(255) COLLATE pg_catalog."C" NOT NULL,
    lease_time     BIGINT  NOT NULL,
    renew_time     BIGINT  NOT NULL,
    version        BIGINT  NOT NULL,
    ttl            INTEGER NOT NULL
) WITH (
    -- Room on each page for the next version of a row, and no index on what a renewal changes: so a
    -- renewal is a heap-only update, which touches one page and leaves nothing for an index to clean.
    fillfactor = 60,
    -- The table is tiny and rewritten all the time: vacuum it early.
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 200
);

COMMENT ON TABLE component_lease IS
    'Who leads: one row per component, never deleted. Made by component-lease.';
COMMENT ON COLUMN component_lease.component_name IS
    'The thing of which exactly one instance may be active; compared byte by byte.';
COMMENT ON COLUMN component_lease.holder_id IS
    'The participant that leads, unique for each start of its process; empty means nobody, and that alone means free.';
COMMENT ON COLUMN component_lease.lease_time IS
    'When this term began: this database''s clock, ms since 1970 UTC. For people; nothing of component-lease decides by it.';
COMMENT ON COLUMN component_lease.renew_time IS
    'The last renewal: this database''s clock, ms since 1970 UTC, always rising while held; 0 when released.';
COMMENT ON COLUMN component_lease.version IS
    'The term: a fencing token, granted in strictly increasing order.';
COMMENT ON COLUMN component_lease.ttl IS
    'Seconds that a term lasts without renewal; fixed for the term.';

-- Wakes whoever listens when the holder changes, whichever program changed it. A renewal does not
-- set holder_id, so it fires nothing and notifies nobody.
CREATE OR REPLACE FUNCTION component_lease_notify() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- component-lease itself says so in its transactions, and notifies after them: a commit that notifies
    -- waits for all others that do.
    IF coalesce(pg_catalog.current_setting('component_lease.notifies', true), '') OPERATOR(pg_catalog.<>) 'later' THEN
        PERFORM pg_catalog.pg_notify('component_lease', NEW.component_name);
    END IF;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION component_lease_notify() IS
    'Notifies the channel component_lease of a change of holder; the payload is the component''s name.';

CREATE TRIGGER component_lease_first_holder AFTER INSERT ON component_lease
    FOR EACH ROW EXECUTE FUNCTION component_lease_notify();

CREATE TRIGGER component_lease_new_holder AFTER UPDATE OF holder_id ON component_lease
    FOR EACH ROW WHEN (OLD.holder_id OPERATOR(pg_catalog.<>) NEW.holder_id)
    EXECUTE FUNCTION component_lease_notify();
