-- What the controller writes for participants to find; they join it into every look.
CREATE TABLE component_lease_intent (
    -- The component, as in component_lease.
    component_name VARCHAR(253) NOT NULL COLLATE BINARY PRIMARY KEY,
    -- Seconds; beats a participant's own setting from its next term on. NULL when no resource says any.
    ttl            INTEGER CHECK (ttl > 0)
);
