//! Processes that must not outlive what allows them: started through guardians, watched, and ended together with
//! everything that they have started.

mod birth;
pub mod children;
pub mod guardian;
pub(crate) mod guardians;
pub(crate) mod processes;
pub(crate) mod tree;
pub(crate) mod ward;

/// Each of these gives access to the database of the leases, or says where that is kept: no program that is supervised needs it.
pub(crate) const OF_THE_LEASES: [&str; 5] = [
    "COMPONENT_LEASE_DATABASE_URL",
    "COMPONENT_LEASE_DATABASE_URL_FILE",
    "COMPONENT_LEASE_DIRECT_DATABASE_URL",
    "COMPONENT_LEASE_DIRECT_DATABASE_URL_FILE",
    "COMPONENT_LEASE_DATABASE_PASSWORD_FILE",
];
