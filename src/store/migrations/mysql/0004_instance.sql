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
