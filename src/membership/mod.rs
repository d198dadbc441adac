//! Who takes part: the key that a participant competes for, and what it tells of itself while it lives. Nothing about
//! who may lead is decided by it.

pub mod holder_id;
pub mod instance;
pub mod namespace;

pub use instance::{Instance, Mode, Promise, SeenInstance, Whereabouts};
