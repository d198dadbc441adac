-- What the controller writes for participants to find; they join it into every look.
CREATE TABLE component_lease_intent (
    component_name VARCHAR(253) COLLATE pg_catalog."C" PRIMARY KEY,
    ttl            INTEGER CHECK (ttl OPERATOR(pg_catalog.>) 0)
);

COMMENT ON TABLE component_lease_intent IS
    'What is wanted of each component: written by the controller from the ComponentLease resource, read by participants.';
COMMENT ON COLUMN component_lease_intent.component_name IS
    'The component, as in component_lease.';
COMMENT ON COLUMN component_lease_intent.ttl IS
    'Seconds; beats a participant''s own setting from its next term on. NULL when no resource says any.';
