//! The write that proves that writes are acknowledged.

use tokio::task::JoinHandle;

use super::session::Session;
use crate::database::engine::EngineError;
use crate::election::Moment;

/// The write that is under way.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) began: Moment,
    pub(super) pid: String,
    pub(super) wrote: JoinHandle<Result<(Session, Written), EngineError>>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    pub(super) seq: i64,
    pub(super) end: u64,
}

/// At most one write waits at a time: one that is not acknowledged cannot be taken back.
#[derive(Debug, Default)]
pub(super) struct Pulses {
    pub(super) pending: Option<Pending>,
    pub(super) session: Option<Session>,
}

impl Pulses {
    /// When the server has ended.
    pub(super) fn forget(&mut self) {
        if let Some(pending) = self.pending.take() {
            pending.wrote.abort();
        }
        self.session = None;
    }
}
