-- The lease itself: the wire format that other programs read and write too.
CREATE TABLE component_lease (
    -- The thing of which exactly one instance may be active; compared byte by byte.
    component_name VARCHAR(253) NOT NULL COLLATE BINARY PRIMARY KEY,
    -- The participant that leads, unique for each start of its process; empty means nobody, and that alone means free.
    holder_id      VARCHAR(255) NOT NULL COLLATE BINARY,
    -- When this term began: this machine's clock, ms since 1970 UTC. For people; nothing of component-lease decides by it.
    lease_time     BIGINT  NOT NULL,
    -- The last renewal: this machine's clock, ms since 1970 UTC, always rising while held; 0 when released.
    renew_time     BIGINT  NOT NULL,
    -- The term: a fencing token, granted in strictly increasing order.
    version        BIGINT  NOT NULL,
    -- Seconds that a term lasts without renewal; fixed for the term.
    ttl            INTEGER NOT NULL
);

-- What the controller and operators write for participants to find; they join it into every look.
CREATE TABLE component_lease_intent (
    -- The component, as in component_lease.
    component_name VARCHAR(253) NOT NULL COLLATE BINARY PRIMARY KEY,
    -- Seconds; beats a participant's own setting from its next term on. NULL when no resource says any.
    ttl            INTEGER CHECK (ttl > 0),
    -- The participant that the resource would like to lead next, as in component_lease.holder_id: the others leave a free
    -- or lapsed lease alone for up to 2 s. NULL: any.
    preferred       VARCHAR(255) COLLATE BINARY,
    -- Seconds for which all participants leave the lease alone when it was given back, because its holder changes too
    -- often; at most a third of their ttl. NULL: none.
    cooldown        INTEGER,
    -- While true, no participant takes the lease; its holder goes on. NULL: not paused.
    paused          BOOLEAN,
    -- Who paused it, in their own words.
    paused_by       VARCHAR(253),
    -- Why.
    paused_reason   VARCHAR(1024),
    -- The request of an operator that was made last. NULL: there is none.
    request_id      VARCHAR(64) COLLATE BINARY,
    -- What it asks for: switchover, step_down, promote or promote_now.
    request_verb    VARCHAR(16),
    -- The term that it is about, as in component_lease. In any other term it is void.
    request_version BIGINT,
    -- The participant that is to lead next, as in component_lease.holder_id. NULL: any.
    request_target  VARCHAR(255) COLLATE BINARY,
    -- Seconds for which a leader that steps down takes nothing afterwards.
    request_away    INTEGER,
    -- Who asked, in their own words.
    request_by      VARCHAR(253),
    -- Why.
    request_reason  VARCHAR(1024),
    -- When it was asked: this machine's clock, ms since 1970 UTC. For people.
    request_time    BIGINT
);

-- What keeps leadership trustworthy when the database itself changes: see src/election/life.rs.

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
    -- When the term ended, written once: this machine's clock, ms since 1970 UTC; of one that lapsed, its last renewal.
    -- NULL: it has not ended, or nobody wrote it down.
    end_time       BIGINT,
    -- Why: released, work_ended, work_failed, expired, deadline, stepped_down, switched_over, promoted, unhealthy,
    -- container_ended, database_changed or foreign.
    end_reason     VARCHAR(32),
    -- Who asked for it, in their own words.
    ended_by       VARCHAR(253),
    -- Why they did.
    ended_why      VARCHAR(1024),
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
INSERT INTO component_lease_history (component_name, version, holder_id, lease_time, ttl)
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

-- Who has started when and where, and who is alive: written by participants about themselves. One row for
-- each unbroken life, from its start to its last heartbeat. Kept for seven days after it ended.
CREATE TABLE IF NOT EXISTS component_instance (
    -- Rises with the beginning of these lives.
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    -- What it competes for, as in component_lease.
    component_name  VARCHAR(253) NOT NULL COLLATE BINARY,
    -- The participant, as in component_lease.holder_id.
    instance        VARCHAR(255) NOT NULL COLLATE BINARY,
    -- When this life began: this machine's clock, ms since 1970 UTC.
    start_time      BIGINT  NOT NULL,
    -- The last sign of life: this machine's clock, ms since 1970 UTC. Out of date, it is never moved again: a new
    -- row begins.
    heartbeat       BIGINT  NOT NULL,
    -- Seconds after which a heartbeat is out of date.
    heartbeat_ttl   INTEGER NOT NULL,
    -- The Kubernetes namespace that it runs in.
    namespace       VARCHAR(253),
    -- The name of its pod.
    pod             VARCHAR(253),
    -- The UID of its pod.
    pod_uid         VARCHAR(253),
    -- The name of its container.
    container       VARCHAR(253),
    -- The node that it runs on.
    node            VARCHAR(253),
    -- Where it can be reached.
    address         VARCHAR(253),
    -- Which version of the program it is, in the program's own words.
    program_version VARCHAR(253),
    -- How it works with the program whose leadership it decides: embedded in it, around it (it starts and stops it)
    -- or beside it.
    mode            VARCHAR(16),
    -- The longest time, in ms, for which it ever tells another process that it leads. NULL: not known.
    longest_promise BIGINT,
    -- Whether it tells that to processes outside of its pod too. NULL: not known.
    promises_outside BOOLEAN,
    -- Among those that could lead, a higher one is preferred; 0 never leads. NULL: not known.
    priority        INTEGER,
    -- Whether it would lead, as far as its health goes.
    healthy         BOOLEAN NOT NULL,
    -- The version of the term that it believes it leads. Compare with component_lease.version: two such beliefs at
    -- a time are a split brain.
    leads           BIGINT,
    -- The highest version that it ever led. Where a row is gone together with its history, this tells that the
    -- component has lived.
    led             BIGINT
);

-- What stands beside a lease that says who is the primary of a database: src/store/roster.rs.

-- What the leader of a component keeps for its successor; of a database: who acknowledges its commits. Written by the
-- leader only, and only while it leads.
CREATE TABLE component_lease_record (
    -- The component, as in component_lease.
    component_name VARCHAR(253) NOT NULL COLLATE BINARY PRIMARY KEY,
    -- The term under which it was written.
    version        BIGINT NOT NULL,
    -- The record, as JSON.
    record         TEXT NOT NULL
);

-- What each member of a component says of itself; of a database: which data it has.
CREATE TABLE component_lease_report (
    -- The component, as in component_lease.
    component_name VARCHAR(253) NOT NULL COLLATE BINARY,
    -- The member.
    member         VARCHAR(253) NOT NULL COLLATE BINARY,
    -- What it says, as JSON.
    report         TEXT NOT NULL,
    -- What an operator asks of it, as JSON.
    wish           TEXT NULL,
    PRIMARY KEY (component_name, member)
);
