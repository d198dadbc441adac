//! The whole life of a participant in one call: [`Participant::run`].

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::task::Poll;
use std::thread;

use tracing::Instrument;

use super::handle::Participant;
use super::outcome::ElectionFailed;
use super::term::{HeldTerm, TermObserver};

impl Participant {
    /// Leads, does the work of each term, and gives the lease back: **for as long as the work does not end**.
    ///
    /// In each term `work` is called once, with a [`TermObserver`] for the fencing token and for what has to know how
    /// long the term lasts. Then
    ///
    /// * **the term ends** (lost, deadline, unhealthy, stepped down): the future that `work` returned is dropped where
    ///   it awaits, which stops it; that it has stopped is confirmed, the lease released, and the next term awaited;
    /// * **the work returns**, a value or an error: the participant is drained, the release awaited, then what the work
    ///   returned is returned: `Ok(Some(value))` or its own error as it is;
    /// * **the work panics**: the same, then the panic goes on in the caller;
    /// * **the participant is drained or shut down** elsewhere: `Ok(None)` once the row is released. With
    ///   [`Participant::shutdown`] the work may end by itself before ([`TermObserver::asked_to_stop`]), which then is
    ///   returned.
    ///
    /// So the row is free afterwards, and this participant takes no other term; to compete again, start another.
    /// (Without an answer of the database the row lapses instead: [`Participant::ended`] tells.)
    ///
    /// # What the work must do
    ///
    /// It must reach an `.await` within the stop grace, or it cannot be dropped, and the process is ended at
    /// [`TermObserver::abort_at`]. What it started elsewhere (`tokio::spawn`, threads, processes) is not stopped by
    /// dropping it: keep tasks in a `JoinSet` that the work owns, and use [`Participant::lead`] for work that needs to
    /// await something to be stopped.
    ///
    /// To `tokio::spawn` a `run`, let the closure own what it uses (`async move |term| …`, with clones of what is shared);
    /// with borrowed captures the compiler cannot see that its future is `Send`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future of `run` stops the work, confirms that, and drains the participant in the background;
    /// await [`Participant::ended`] or [`Participant::shutdown`] to know when the row is free.
    ///
    /// # Errors
    /// The work's own, or [`ElectionFailed`] turned into its type.
    ///
    /// # Panics
    /// If the work does, with its payload, after the release.
    pub async fn run<T, E, W>(&self, mut work: W) -> Result<Option<T>, E>
    where
        W: AsyncFnMut(TermObserver) -> Result<T, E>,
        E: From<ElectionFailed>,
    {
        // Without `run` nobody does the work: also one that is dropped lets another process lead.
        let drained = DrainOnDrop(self);
        let outcome = loop {
            let Some(held) = self.lead().await? else { return Ok(None) };
            if let Some(outcome) = one_term(held, &mut work).await {
                break outcome;
            }
        };
        drop(drained);
        // The work has ended however the release does: `ended` reports that.
        let _ = self.ended().await;
        match outcome {
            Ok(returned) => returned.map(Some),
            Err(panic) => resume_unwind(panic),
        }
    }
}

struct DrainOnDrop<'a>(&'a Participant);

impl Drop for DrainOnDrop<'_> {
    fn drop(&mut self) {
        self.0.drain();
    }
}

/// The work of one term. `None` when the term ended first. When this returns, panics of the work included, or is
/// dropped, nothing of the work is left, and after it `held` has said so.
async fn one_term<T, E, W>(held: HeldTerm, work: &mut W) -> Option<thread::Result<Result<T, E>>>
where
    W: AsyncFnMut(TermObserver) -> Result<T, E>,
{
    let observer = held.observer();
    // Dropped before `held`, also when the whole is dropped. Called within, as a panic of the call counts too.
    let mut running = Box::pin(async move { work(observer).await }.instrument(held.span().clone()));
    let outcome = tokio::select! {
        // First: what must stop is not polled once more.
        biased;
        _ = held.lost() => None,
        outcome = poll_fn(|context| {
            match catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(context))) {
                Ok(poll) => poll.map(Ok),
                Err(panic) => Poll::Ready(Err(panic)),
            }
        }) => Some(outcome),
    };
    let outcome = match catch_unwind(AssertUnwindSafe(|| drop(running))) {
        Ok(()) => outcome,
        Err(panic) => outcome.filter(thread::Result::is_err).or(Some(Err(panic))),
    };
    if let Some(outcome) = &outcome {
        held.work_ended(matches!(outcome, Ok(Ok(_))));
    }
    outcome
}
