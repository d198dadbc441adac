//! Processes that must not outlive what allows them: started through guardians, watched, and ended together with
//! everything that they have started.

mod birth;
pub mod children;
pub mod guardian;
pub(crate) mod guardians;
pub(crate) mod processes;
pub(crate) mod tree;
pub(crate) mod ward;
