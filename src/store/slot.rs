//! The one connection of a store. A call takes it out, works with it and puts it back; whoever is
//! dropped or fails in between drops it, and a dropped connection is closed: it is never reused,
//! and the server is never sent a cancel (the statement may still be applied: *unknown*).

use tokio::sync::{Mutex, MutexGuard};

/// After how many looks a connection that found no or not all companion tables asks for them again:
/// `migrate` may have made them since.
pub(super) const LOOKS_WITHOUT_COMPANIONS: u32 = 20;

/// Room for one connection. Calls of one store queue up for it.
pub(super) struct Slot<S>(Mutex<Option<S>>);

/// The exclusive right to use the slot, with what was found in it.
pub(super) struct Turn<'a, S> {
    place: MutexGuard<'a, Option<S>>,
}

impl<S> Default for Slot<S> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<S> Slot<S> {
    pub(super) async fn turn(&self) -> Turn<'_, S> {
        Turn { place: self.0.lock().await }
    }
}

impl<'a, S> Turn<'a, S> {
    /// Takes the connection out, if there is one.
    pub(super) fn take(&mut self) -> Option<S> {
        self.place.take()
    }

    /// Continues with this connection.
    pub(super) fn with(self, session: S) -> Held<'a, S> {
        Held { place: self.place, session }
    }
}

/// A connection in use; closed when dropped.
pub(super) struct Held<'a, S> {
    place: MutexGuard<'a, Option<S>>,
    pub(super) session: S,
}

impl<S> Held<'_, S> {
    /// It is in order: the next call may have it.
    pub(super) fn put_back(mut self) {
        *self.place = Some(self.session);
    }
}
