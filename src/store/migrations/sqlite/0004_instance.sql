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
    -- Whether it would lead, as far as its health goes.
    healthy         BOOLEAN NOT NULL,
    -- The version of the term that it believes it leads. Compare with component_lease.version: two such beliefs at
    -- a time are a split brain.
    leads           BIGINT,
    -- The highest version that it ever led. Where a row is gone together with its history, this tells that the
    -- component has lived.
    led             BIGINT
);
