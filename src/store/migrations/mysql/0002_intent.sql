-- What the controller writes for participants to find; they join it into every look.
CREATE TABLE IF NOT EXISTS component_lease_intent (
    component_name VARCHAR(253) NOT NULL
        COMMENT 'The component, as in component_lease.',
    ttl INT NULL
        COMMENT 'Seconds; beats a participant''s own setting from its next term on. NULL when no resource says any.',
    PRIMARY KEY (component_name),
    CONSTRAINT component_lease_intent_ttl CHECK (ttl > 0)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
    COMMENT = 'What is wanted of each component: written by the controller from the ComponentLease resource, read by participants.';
