//! Wake-ups from a database. A hint says "look now"; polling stays the truth.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// Something may have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// The holder of this component.
    Component(String),
    /// Anything: the store cannot tell, or the hints were interrupted for a while.
    Any,
}

/// The sending half, for stores.
#[derive(Debug, Clone)]
pub struct HintSender {
    sender: mpsc::Sender<Hint>,
    flows: Arc<AtomicBool>,
}

impl HintSender {
    /// Never waits: when the receiver is that far behind, it will look anyway. False when nobody listens any more.
    pub fn send(&self, hint: Hint) -> bool {
        !matches!(self.sender.try_send(hint), Err(mpsc::error::TrySendError::Closed(_)))
    }

    /// Resolves when nobody listens any more.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }

    /// Whether a change that happens now will be told. Before the first call it will not.
    pub fn set_flowing(&self, flows: bool) {
        self.flows.store(flows, Ordering::Relaxed);
    }
}

/// A stream of hints; what feeds it ends when this is dropped.
#[derive(Debug)]
pub struct Hints {
    receiver: mpsc::Receiver<Hint>,
    flows: Arc<AtomicBool>,
    every_commit: bool,
    _feeder: Option<AbortOnDropHandle<()>>,
}

impl Hints {
    /// Hints fed by a background task.
    pub fn fed_by<F>(feeder: impl FnOnce(HintSender) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (sender, receiver) = mpsc::channel(64);
        let flows = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(feeder(HintSender { sender, flows: Arc::clone(&flows) }));
        Self { receiver, flows, every_commit: false, _feeder: Some(AbortOnDropHandle::new(task)) }
    }

    /// For stores that cannot tell.
    #[must_use]
    pub fn none() -> Self {
        Self {
            receiver: mpsc::channel(1).1,
            flows: Arc::new(AtomicBool::new(false)),
            every_commit: false,
            _feeder: None,
        }
    }

    /// Says that a hint comes with every commit of anybody else: renewals too, and without fail.
    #[must_use]
    pub fn of_every_commit(mut self) -> Self {
        self.every_commit = true;
        self
    }

    /// Whether a hint comes with every commit of anybody else, so that without one nothing changed.
    #[must_use]
    pub fn tells_every_commit(&self) -> bool {
        self.every_commit
    }

    /// Whether a change that happens now will be told, as far as is known. Where it will not, who waits
    /// for one looks more often.
    #[must_use]
    pub fn flow(&self) -> bool {
        self.flows.load(Ordering::Relaxed)
    }

    /// Forgets the hints that have come: a look that follows answers them all.
    pub fn drain(&mut self) {
        while self.receiver.try_recv().is_ok() {}
    }

    /// Forgets the hints that have come, as [`Hints::drain`] does. Whether one may concern this component.
    pub fn take(&mut self, component: &str) -> bool {
        let mut concerned = false;
        while let Ok(hint) = self.receiver.try_recv() {
            concerned |= hint == Hint::Any || hint == Hint::Component(component.to_owned());
        }
        concerned
    }

    /// The next hint; never resolves when there are none to come.
    pub async fn next(&mut self) -> Hint {
        match self.receiver.recv().await {
            Some(hint) => hint,
            None => std::future::pending().await,
        }
    }

    /// The next hint that may concern this component.
    pub async fn next_for(&mut self, component: &str) {
        loop {
            match self.next().await {
                Hint::Component(other) if other != component => {}
                _ => return,
            }
        }
    }
}
