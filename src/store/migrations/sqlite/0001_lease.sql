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
