use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::{Answer, Coming, Connect, Slot};
use crate::store::error::StoreError;

/// What a connection beside the one of the slot is asked for.
pub(in crate::store::sql) enum Request<C: Connect> {
    /// To take the place of the slot's connection, which broke, if it is one to this source. It stops
    /// listening for that.
    Replace(C::Source, oneshot::Sender<Answer<C::Session>>),
    /// To tell others that the holder of a component has changed.
    Notify(String, oneshot::Sender<Result<(), StoreError>>),
}

impl<C: Connect> Slot<C> {
    /// How often a connection has to be used, so that nobody closes it; `None` where nobody is known to.
    pub(in crate::store::sql) fn keep_alive(&self) -> Option<Duration> {
        self.0.keep_alive()
    }

    /// Whether a connection is in the slot: one that is in order and that no call works with.
    pub(in crate::store::sql) fn stands(&self) -> watch::Receiver<bool> {
        self.0.stands.subscribe()
    }

    /// A connection stands beside the slot's from now on, until the receiver is dropped; `is_spare` where it
    /// may take its place.
    pub(in crate::store::sql) fn beside(&self, is_spare: bool) -> mpsc::Receiver<Request<C>> {
        let (sender, receiver) = mpsc::channel(1);
        *self.0.beside.lock().unwrap_or_else(PoisonError::into_inner) = Some((sender, is_spare));
        receiver
    }

    /// Tells others of a change on the connection beside the slot's; `None` where there is none.
    pub(in crate::store::sql) async fn notify(&self, component: &str) -> Option<Result<(), StoreError>> {
        let (beside, _) = self.0.beside.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let (sender, told) = oneshot::channel();
        beside.try_send(Request::Notify(component.to_owned(), sender)).ok()?;
        told.await.ok()
    }

    /// Asks the connection beside the slot's to take its place.
    pub(super) fn spare(&self, source: &C::Source) -> Option<Coming<C>> {
        let (beside, _) = {
            let mut beside = self.0.beside.lock().unwrap_or_else(PoisonError::into_inner);
            beside.take_if(|(_, is_spare)| *is_spare)?
        };
        let (sender, answer) = oneshot::channel();
        beside.try_send(Request::Replace(source.clone(), sender)).ok()?;
        Some(Coming { source: source.clone(), is_spare: true, answer, _maker: None })
    }
}
