//! Whose turn it is when many resources are due at once. Users wait for labels, and the API server divides its time
//! among what it is asked: so labels go first, and what is said of them (statuses, Events) comes after.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as Turn, OwnedMutexGuard, Semaphore, SemaphorePermit, watch};

/// So many resources are observed and their pods patched at the same time.
const LABELLING: usize = 32;
/// Of more selectors than this, those are forgotten whose resources have no turn.
const KNOWN: usize = 1024;
/// So many say at the same time what was found.
const SAYING: usize = 16;
/// How long they let others go first, at most: where labels never end, statuses go on all the same.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Turns {
    labelling: Semaphore,
    /// By namespace and selector. Resources that label the same pods go one after the other: each patch is bound to the
    /// state of its pod, so at the same time they would only be in each other's way.
    same_pods: Mutex<HashMap<String, Arc<Turn<()>>>>,
    saying: Semaphore,
    /// Those that label, or wait for a turn to.
    before: watch::Sender<usize>,
}

/// A turn to observe a resource and to patch its pods: what is observed is fresh when it is acted upon.
#[derive(Debug)]
pub(super) struct Labelling<'t> {
    _turn: Option<SemaphorePermit<'t>>,
    _alone: OwnedMutexGuard<()>,
    _before: Before<'t>,
}

#[derive(Debug)]
struct Before<'t>(&'t watch::Sender<usize>);

impl Drop for Before<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|before| *before -= 1);
    }
}

impl Default for Turns {
    fn default() -> Self {
        let (labelling, saying) = (Semaphore::new(LABELLING), Semaphore::new(SAYING));
        Self { labelling, same_pods: Mutex::default(), saying, before: watch::Sender::new(0) }
    }
}

impl Turns {
    /// `pods` says which.
    pub(super) async fn to_label(&self, pods: String) -> Labelling<'_> {
        self.before.send_modify(|before| *before += 1);
        let before = Before(&self.before);
        let alone = {
            let mut all = self.same_pods.lock().unwrap_or_else(PoisonError::into_inner);
            if all.len() > KNOWN {
                all.retain(|_, turn| Arc::strong_count(turn) > 1);
            }
            Arc::clone(all.entry(pods).or_default())
        };
        let alone = alone.lock_owned().await;
        // Never closed.
        Labelling { _turn: self.labelling.acquire().await.ok(), _alone: alone, _before: before }
    }

    /// A turn to say what was found and done in another one, which is over.
    pub(super) async fn to_say(&self, labelled: Labelling<'_>) -> Option<SemaphorePermit<'_>> {
        drop(labelled);
        let turn = self.saying.acquire().await.ok();
        let mut before = self.before.subscribe();
        let _ = tokio::time::timeout(PATIENCE, before.wait_for(|before| *before == 0)).await;
        turn
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use futures::poll;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_said_waits_until_all_are_labelled_and_not_for_long() {
        let turns = Turns::default();
        let begun = Instant::now();
        drop(turns.to_say(turns.to_label("other-1".to_owned()).await).await);
        assert_eq!(begun.elapsed(), Duration::ZERO, "nobody else is due");

        let (first, second) =
            (turns.to_label("other-2".to_owned()).await, turns.to_label("other-3".to_owned()).await);
        let mut saying = std::pin::pin!(turns.to_say(turns.to_label("other-4".to_owned()).await));
        assert!(poll!(saying.as_mut()).is_pending());
        drop(first);
        assert!(poll!(saying.as_mut()).is_pending());
        drop(second);
        assert!(poll!(saying.as_mut()).is_ready());
        assert_eq!(begun.elapsed(), Duration::ZERO);

        let _busy = turns.to_label("other-5".to_owned()).await;
        drop(turns.to_say(turns.to_label("other-6".to_owned()).await).await);
        assert_eq!(begun.elapsed(), PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_label_at_a_time_and_who_waits_for_a_turn_goes_before_what_is_said() {
        let turns = Turns::default();
        let mut busy = join_all((0..LABELLING).map(|n| turns.to_label(n.to_string()))).await;
        let mut next = std::pin::pin!(turns.to_label("other-7".to_owned()));
        assert!(poll!(next.as_mut()).is_pending());
        busy.pop();
        assert!(poll!(next.as_mut()).is_ready(), "one has ended");
        busy.clear();
        let mut full = join_all((0..LABELLING).map(|n| turns.to_label(n.to_string()))).await;
        {
            let mut waits = std::pin::pin!(turns.to_label("other-8".to_owned()));
            assert!(poll!(waits.as_mut()).is_pending());
            let done = full.pop().unwrap();
            full.clear();
            let mut saying = std::pin::pin!(turns.to_say(done));
            assert!(poll!(saying.as_mut()).is_pending(), "one waits for its turn to label");
        }
        assert_eq!(*turns.before.borrow(), 0, "one that gave up waiting is in nobody's way");
    }

    #[tokio::test]
    async fn resources_that_label_the_same_pods_go_one_after_the_other() {
        let turns = Turns::default();
        let first = turns.to_label("a".to_owned()).await;
        let mut second = std::pin::pin!(turns.to_label("a".to_owned()));
        assert!(poll!(second.as_mut()).is_pending());
        drop(turns.to_label("b".to_owned()).await);
        drop(first);
        assert!(poll!(second.as_mut()).is_ready());
    }
}
