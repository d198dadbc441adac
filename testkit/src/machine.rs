//! Which tests of one process run at the same time, where that matters: one that says how long something may take, and
//! one that takes the whole machine.

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

static MACHINE: RwLock<()> = RwLock::const_new(());

/// While this is held, no test has the machine [`alone`]. A test takes one of them once: the second time could wait for the
/// first.
pub async fn shared() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().await
}

/// [`shared`] outside of a runtime.
pub fn shared_blocking() -> RwLockReadGuard<'static, ()> {
    MACHINE.blocking_read()
}

/// While this is held, no other test has the machine, [`shared`] or alone. Those that take neither run on.
pub async fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().await
}

/// [`alone`] outside of a runtime.
pub fn alone_blocking() -> RwLockWriteGuard<'static, ()> {
    MACHINE.blocking_write()
}
