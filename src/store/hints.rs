//! Wake-ups from a database. A hint says "look now"; polling stays the truth.

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
pub struct HintSender(mpsc::Sender<Hint>);

impl HintSender {
    /// Never waits: when the receiver is that far behind, it will look anyway. False when nobody listens any more.
    pub fn send(&self, hint: Hint) -> bool {
        !matches!(self.0.try_send(hint), Err(mpsc::error::TrySendError::Closed(_)))
    }

    /// Resolves when nobody listens any more.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

/// A stream of hints; what feeds it ends when this is dropped.
#[derive(Debug)]
pub struct Hints {
    receiver: mpsc::Receiver<Hint>,
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
        let task = tokio::spawn(feeder(HintSender(sender)));
        Self { receiver, every_commit: false, _feeder: Some(AbortOnDropHandle::new(task)) }
    }

    /// For stores that cannot tell.
    #[must_use]
    pub fn none() -> Self {
        Self { receiver: mpsc::channel(1).1, every_commit: false, _feeder: None }
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

    /// Forgets the hints that have come: a look that follows answers them all.
    pub fn drain(&mut self) {
        while self.receiver.try_recv().is_ok() {}
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
