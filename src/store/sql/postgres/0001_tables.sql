-- The lease itself: the wire format that other programs read and write too.
--
-- Operators and functions are named with their schema: an operator that
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

-- Wakes all listeners when the holder changes, whichever program changed it. A renewal does not
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

-- What the controller and operators write for participants to find; they join it into every look.
CREATE TABLE component_lease_intent (
    component_name  VARCHAR(253) COLLATE pg_catalog."C" PRIMARY KEY,
    ttl             INTEGER CHECK (ttl OPERATOR(pg_catalog.>) 0),
    preferred       VARCHAR(255) COLLATE pg_catalog."C",
    cooldown        INTEGER,
    paused          BOOLEAN,
    paused_by       VARCHAR(253),
    paused_reason   VARCHAR(1024),
    request_id      VARCHAR(64) COLLATE pg_catalog."C",
    request_verb    VARCHAR(16),
    request_version BIGINT,
    request_target  VARCHAR(255) COLLATE pg_catalog."C",
    request_away    INTEGER,
    request_by      VARCHAR(253),
    request_reason  VARCHAR(1024),
    request_time    BIGINT
);

COMMENT ON TABLE component_lease_intent IS
    'What is wanted of each component: written by the controller from the ComponentLease resource and by operators, read by participants.';
COMMENT ON COLUMN component_lease_intent.component_name IS
    'The component, as in component_lease.';
COMMENT ON COLUMN component_lease_intent.ttl IS
    'Seconds; beats a participant''s own setting from its next term on. NULL when no resource says any.';
COMMENT ON COLUMN component_lease_intent.preferred IS
    'The participant that the resource would like to lead next, as in component_lease.holder_id: the others leave a free or lapsed lease alone for up to 2 s. NULL: any.';
COMMENT ON COLUMN component_lease_intent.cooldown IS
    'Seconds for which all participants leave the lease alone when it was given back, because its holder changes too often; at most a third of their ttl. NULL: none.';
COMMENT ON COLUMN component_lease_intent.paused IS
    'While true, no participant takes the lease; its holder goes on. NULL: not paused.';
COMMENT ON COLUMN component_lease_intent.paused_by IS
    'Who paused it, in their own words.';
COMMENT ON COLUMN component_lease_intent.paused_reason IS
    'Why.';
COMMENT ON COLUMN component_lease_intent.request_id IS
    'The request of an operator that was made last. NULL: there is none.';
COMMENT ON COLUMN component_lease_intent.request_verb IS
    'What it asks for: switchover, step_down, promote or promote_now.';
COMMENT ON COLUMN component_lease_intent.request_version IS
    'The term that it is about, as in component_lease. In any other term it is void.';
COMMENT ON COLUMN component_lease_intent.request_target IS
    'The participant that is to lead next, as in component_lease.holder_id. NULL: any.';
COMMENT ON COLUMN component_lease_intent.request_away IS
    'Seconds for which a leader that steps down takes nothing afterwards.';
COMMENT ON COLUMN component_lease_intent.request_by IS
    'Who asked, in their own words.';
COMMENT ON COLUMN component_lease_intent.request_reason IS
    'Why.';
COMMENT ON COLUMN component_lease_intent.request_time IS
    'When it was asked: this database''s clock, ms since 1970 UTC. For people.';

-- What keeps leadership trustworthy when the database itself changes: see src/election/life.rs.

-- One line for each term, written in the transaction that begins it: a version is granted once.
CREATE TABLE component_lease_history (
    component_name VARCHAR(253) COLLATE pg_catalog."C" NOT NULL,
    version        BIGINT NOT NULL,
    holder_id      VARCHAR(255) COLLATE pg_catalog."C" NOT NULL,
    lease_time     BIGINT NOT NULL,
    ttl            INTEGER NOT NULL,
    end_time       BIGINT,
    end_reason     VARCHAR(32),
    ended_by       VARCHAR(253),
    ended_why      VARCHAR(1024),
    PRIMARY KEY (component_name, version)
);

COMMENT ON TABLE component_lease_history IS
    'One line for each term of each component; the last one of a component is never deleted: a version is granted once.';
COMMENT ON COLUMN component_lease_history.component_name IS 'The component, as in component_lease.';
COMMENT ON COLUMN component_lease_history.version IS 'The term: a fencing token, granted in strictly increasing order.';
COMMENT ON COLUMN component_lease_history.holder_id IS 'The participant that led.';
COMMENT ON COLUMN component_lease_history.lease_time IS
    'When the term began: this database''s clock, ms since 1970 UTC.';
COMMENT ON COLUMN component_lease_history.ttl IS 'Seconds that the term lasted without renewal.';
COMMENT ON COLUMN component_lease_history.end_time IS
    'When the term ended, written once: this database''s clock, ms since 1970 UTC; of one that lapsed, its last renewal. NULL: it has not ended, or nobody wrote it down.';
COMMENT ON COLUMN component_lease_history.end_reason IS
    'Why: released, work_ended, work_failed, expired, deadline, stepped_down, switched_over, promoted, unhealthy, container_ended, database_changed or foreign.';
COMMENT ON COLUMN component_lease_history.ended_by IS 'Who asked for it, in their own words.';
COMMENT ON COLUMN component_lease_history.ended_why IS 'Why they did.';

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
INSERT INTO component_lease_history (component_name, version, holder_id, lease_time, ttl)
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

-- Who has started when and where, and who is alive: written by participants about themselves.
CREATE TABLE component_instance (
    id              BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    component_name  VARCHAR(253) COLLATE pg_catalog."C" NOT NULL,
    instance        VARCHAR(255) COLLATE pg_catalog."C" NOT NULL,
    start_time      BIGINT  NOT NULL,
    heartbeat       BIGINT  NOT NULL,
    heartbeat_ttl   INTEGER NOT NULL,
    namespace       VARCHAR(253),
    pod             VARCHAR(253),
    pod_uid         VARCHAR(253),
    container       VARCHAR(253),
    node            VARCHAR(253),
    address         VARCHAR(253),
    program_version VARCHAR(253),
    mode            VARCHAR(16),
    longest_promise BIGINT,
    promises_outside BOOLEAN,
    priority        INTEGER,
    healthy         BOOLEAN NOT NULL,
    leads           BIGINT,
    led             BIGINT
) WITH (
    -- As with component_lease: heartbeats are heap-only updates.
    fillfactor = 60,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1000
);

COMMENT ON TABLE component_instance IS
    'One row for each unbroken life of a participant, from its start to its last heartbeat. Kept for seven days after it ended.';
COMMENT ON COLUMN component_instance.id IS 'Rises with the beginning of these lives.';
COMMENT ON COLUMN component_instance.component_name IS 'What it competes for, as in component_lease.';
COMMENT ON COLUMN component_instance.instance IS 'The participant, as in component_lease.holder_id.';
COMMENT ON COLUMN component_instance.start_time IS
    'When this life began: this database''s clock, ms since 1970 UTC.';
COMMENT ON COLUMN component_instance.heartbeat IS
    'The last sign of life: this database''s clock, ms since 1970 UTC. Out of date, it is never moved again: a new row begins.';
COMMENT ON COLUMN component_instance.heartbeat_ttl IS 'Seconds after which a heartbeat is out of date.';
COMMENT ON COLUMN component_instance.namespace IS 'The Kubernetes namespace that it runs in.';
COMMENT ON COLUMN component_instance.pod IS 'The name of its pod.';
COMMENT ON COLUMN component_instance.pod_uid IS 'The UID of its pod.';
COMMENT ON COLUMN component_instance.container IS 'The name of its container.';
COMMENT ON COLUMN component_instance.node IS 'The node that it runs on.';
COMMENT ON COLUMN component_instance.address IS 'Where it can be reached.';
COMMENT ON COLUMN component_instance.program_version IS 'Which version of the program it is, in the program''s own words.';
COMMENT ON COLUMN component_instance.mode IS
    'How it works with the program whose leadership it decides: embedded in it, around it (it starts and stops it) or beside it.';
COMMENT ON COLUMN component_instance.longest_promise IS
    'The longest time, in ms, for which it ever tells another process that it leads. NULL: not known.';
COMMENT ON COLUMN component_instance.promises_outside IS
    'Whether it tells that to processes outside of its pod too. NULL: not known.';
COMMENT ON COLUMN component_instance.priority IS
    'Among those that could lead, a higher one is preferred; 0 never leads. NULL: not known.';
COMMENT ON COLUMN component_instance.healthy IS 'Whether it would lead, as far as its health goes.';
COMMENT ON COLUMN component_instance.leads IS
    'The version of the term that it believes it leads. Compare with component_lease.version: two such beliefs at a time are a split brain.';
COMMENT ON COLUMN component_instance.led IS
    'The highest version that it ever led. Where a row is gone together with its history, this tells that the component has lived.';

-- What stands beside a lease that says who is the primary of a database: src/store/roster.rs.

-- Written by the leader of the lease only, and only while it leads.
CREATE TABLE component_lease_record (
    component_name VARCHAR(253) COLLATE pg_catalog."C" PRIMARY KEY,
    version        BIGINT NOT NULL,
    record         VARCHAR(16384) COLLATE pg_catalog."C" NOT NULL
);

COMMENT ON TABLE component_lease_record IS
    'What the leader of a component keeps for its successor; of a database: who acknowledges its commits. Never change it by hand.';
COMMENT ON COLUMN component_lease_record.component_name IS 'The component, as in component_lease.';
COMMENT ON COLUMN component_lease_record.version IS 'The term under which it was written.';
COMMENT ON COLUMN component_lease_record.record IS 'The record, as JSON.';

-- Written by each member about itself.
CREATE TABLE component_lease_report (
    component_name VARCHAR(253) COLLATE pg_catalog."C" NOT NULL,
    member         VARCHAR(253) COLLATE pg_catalog."C" NOT NULL,
    report         VARCHAR(16384) COLLATE pg_catalog."C" NOT NULL,
    wish           VARCHAR(16384) COLLATE pg_catalog."C" NULL,
    PRIMARY KEY (component_name, member)
);

COMMENT ON TABLE component_lease_report IS
    'What each member of a component says of itself; of a database: which data it has. Never change it by hand.';
COMMENT ON COLUMN component_lease_report.component_name IS 'The component, as in component_lease.';
COMMENT ON COLUMN component_lease_report.member IS 'The member.';
COMMENT ON COLUMN component_lease_report.report IS 'What it says, as JSON.';
COMMENT ON COLUMN component_lease_report.wish IS 'What an operator asks of it, as JSON.';
