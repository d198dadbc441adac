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
COMMENT ON COLUMN component_instance.healthy IS 'Whether it would lead, as far as its health goes.';
COMMENT ON COLUMN component_instance.leads IS
    'The version of the term that it believes it leads. Compare with component_lease.version: two such beliefs at a time are a split brain.';
COMMENT ON COLUMN component_instance.led IS
    'The highest version that it ever led. Where a row is gone together with its history, this tells that the component has lived.';
