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

-- What the controller and operators write for participants to find; they join it into every look.
CREATE TABLE IF NOT EXISTS component_lease_intent (
    component_name VARCHAR(253) NOT NULL
        COMMENT 'The component, as in component_lease.',
    ttl INT NULL
        COMMENT 'Seconds; beats a participant''s own setting from its next term on. NULL when no resource says any.',
    preferred VARCHAR(255) NULL
        COMMENT 'The participant that the resource would like to lead next, as in component_lease.holder_id: the others leave a free or lapsed lease alone for up to 2 s. NULL: any.',
    cooldown INT NULL
        COMMENT 'Seconds for which all participants leave the lease alone when it was given back, because its holder changes too often; at most a third of their ttl. NULL: none.',
    paused BOOLEAN NULL
        COMMENT 'While true, no participant takes the lease; its holder goes on. NULL: not paused.',
    paused_by VARCHAR(253) NULL
        COMMENT 'Who paused it, in their own words.',
    paused_reason VARCHAR(1024) NULL
        COMMENT 'Why.',
    request_id VARCHAR(64) NULL
        COMMENT 'The request of an operator that was made last. NULL: there is none.',
    request_verb VARCHAR(16) NULL
        COMMENT 'What it asks for: switchover, step_down, promote or promote_now.',
    request_version BIGINT NULL
        COMMENT 'The term that it is about, as in component_lease. In any other term it is void.',
    request_target VARCHAR(255) NULL
        COMMENT 'The participant that is to lead next, as in component_lease.holder_id. NULL: any.',
    request_away INT NULL
        COMMENT 'Seconds for which a leader that steps down takes nothing afterwards.',
    request_by VARCHAR(253) NULL
        COMMENT 'Who asked, in their own words.',
    request_reason VARCHAR(1024) NULL
        COMMENT 'Why.',
    request_time BIGINT NULL
        COMMENT 'When it was asked: this database''s clock, ms since 1970 UTC. For people.',
    PRIMARY KEY (component_name),
    CONSTRAINT component_lease_intent_ttl CHECK (ttl > 0)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
    COMMENT = 'What is wanted of each component: written by the controller from the ComponentLease resource and by operators, read by participants.';

-- What keeps leadership trustworthy when the database itself changes: see src/election/life.rs.

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
    end_time BIGINT NULL
        COMMENT 'When the term ended, written once: this database''s clock, ms since 1970 UTC; of one that lapsed, its last renewal. NULL: it has not ended, or nobody wrote it down.',
    end_reason VARCHAR(32) NULL
        COMMENT 'Why: released, work_ended, work_failed, expired, deadline, stepped_down, switched_over, promoted, unhealthy, container_ended, database_changed or foreign.',
    ended_by VARCHAR(253) NULL
        COMMENT 'Who asked for it, in their own words.',
    ended_why VARCHAR(1024) NULL
        COMMENT 'Why they did.',
    PRIMARY KEY (component_name, version)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
    COMMENT = 'One line for each term of each component; the last one of a component is never deleted: a version is granted once.';

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

-- Who has started when and where, and who is alive: written by participants about themselves.
CREATE TABLE IF NOT EXISTS component_instance (
    id BIGINT NOT NULL AUTO_INCREMENT
        COMMENT 'Rises with the beginning of these lives.',
    component_name VARCHAR(253) NOT NULL
        COMMENT 'What it competes for, as in component_lease.',
    instance VARCHAR(255) NOT NULL
        COMMENT 'The participant, as in component_lease.holder_id.',
    start_time BIGINT NOT NULL
        COMMENT 'When this life began: this database''s clock, ms since 1970 UTC.',
    heartbeat BIGINT NOT NULL
        COMMENT 'The last sign of life: this database''s clock, ms since 1970 UTC. Out of date, it is never moved again: a new row begins.',
    heartbeat_ttl INT NOT NULL
        COMMENT 'Seconds after which a heartbeat is out of date.',
    namespace VARCHAR(253) NULL
        COMMENT 'The Kubernetes namespace that it runs in.',
    pod VARCHAR(253) NULL
        COMMENT 'The name of its pod.',
    pod_uid VARCHAR(253) NULL
        COMMENT 'The UID of its pod.',
    container VARCHAR(253) NULL
        COMMENT 'The name of its container.',
    node VARCHAR(253) NULL
        COMMENT 'The node that it runs on.',
    address VARCHAR(253) NULL
        COMMENT 'Where it can be reached.',
    program_version VARCHAR(253) NULL
        COMMENT 'Which version of the program it is, in the program''s own words.',
    mode VARCHAR(16) NULL
        COMMENT 'How it works with the program whose leadership it decides: embedded in it, around it (it starts and stops it) or beside it.',
    longest_promise BIGINT NULL
        COMMENT 'The longest time, in ms, for which it ever tells another process that it leads. NULL: not known.',
    promises_outside BOOLEAN NULL
        COMMENT 'Whether it tells that to processes outside of its pod too. NULL: not known.',
    priority INT NULL
        COMMENT 'Among those that could lead, a higher one is preferred; 0 never leads. NULL: not known.',
    healthy BOOLEAN NOT NULL
        COMMENT 'Whether it would lead, as far as its health goes.',
    leads BIGINT NULL
        COMMENT 'The version of the term that it believes it leads. Compare with component_lease.version: two such beliefs at a time are a split brain.',
    led BIGINT NULL
        COMMENT 'The highest version that it ever led. Where a row is gone together with its history, this tells that the component has lived.',
    PRIMARY KEY (id),
    KEY component_instance_component (component_name)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
    COMMENT = 'One row for each unbroken life of a participant, from its start to its last heartbeat. Kept for seven days after it ended.';

-- What stands beside a lease that says who is the primary of a database: src/store/roster.rs.

-- Written by the leader of the lease only, and only while it leads.
CREATE TABLE IF NOT EXISTS component_lease_record (
    component_name VARCHAR(253) NOT NULL
        COMMENT 'The component, as in component_lease.',
    version BIGINT NOT NULL
        COMMENT 'The term under which it was written.',
    record TEXT NOT NULL
        COMMENT 'The record, as JSON.',
    PRIMARY KEY (component_name)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
    COMMENT = 'What the leader of a component keeps for its successor; of a database: who acknowledges its commits. Never change it by hand.';

-- Written by each member about itself.
CREATE TABLE IF NOT EXISTS component_lease_report (
    component_name VARCHAR(253) NOT NULL
        COMMENT 'The component, as in component_lease.',
    member VARCHAR(253) NOT NULL
        COMMENT 'The member.',
    report TEXT NOT NULL
        COMMENT 'What it says, as JSON.',
    wish TEXT NULL
        COMMENT 'What an operator asks of it, as JSON.',
    PRIMARY KEY (component_name, member)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
    COMMENT = 'What each member of a component says of itself; of a database: which data it has. Never change it by hand.';
