//! How far the watch of pods is behind what patches and reads have answered.
//!
//! Nothing newer is ever laid over what the watch shows: it shows one moment of the past, and that is what the guards
//! rest on. One pod as it is now, beside others as they were before a pod was born that another controller labels,
//! makes two labelled pods (`tests/sim/labels.rs`). Only a pod that is gone may be left out: nobody can label it any
//! more.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::ResourceExt as _;
use kube::runtime::watcher::Event;
use tokio::sync::watch;

use super::index::Index;
use super::pods::KubePod;

/// A namespace and a name.
type Named = (String, String);

/// How long a decision waits for the watch to show what is known already.
const CATCH_UP: Duration = Duration::from_secs(2);

/// What patches and reads have answered that the watch does not show yet.
#[derive(Debug)]
pub(super) struct Behind {
    known: Mutex<Known>,
    /// The number of the oldest answer that the watch does not show yet.
    oldest: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Known {
    /// The number of the next answer.
    next: u64,
    /// The UIDs of pods by the numbers of their answers.
    order: BTreeMap<u64, String>,
    /// By UID.
    pods: HashMap<String, Awaited>,
    /// By UID, pods that are gone, until the watch shows that.
    gone: HashMap<String, Named>,
}

#[derive(Debug)]
struct Awaited {
    named: Named,
    /// The numbers of the answers, and the resource versions that they showed.
    answers: Vec<(u64, u64)>,
}

/// Kubernetes compares resource versions of one kind as numbers since 1.35, and they were numbers before.
fn version(pod: &KubePod) -> Option<u64> {
    pod.metadata.resource_version.as_deref()?.parse().ok()
}

impl Known {
    fn oldest(&self) -> u64 {
        self.order.first_key_value().map_or(self.next, |(number, _)| *number)
    }

    /// The pod has been shown at this version; `None` when it will not be shown any more.
    fn shown(&mut self, uid: &str, version: Option<u64>) {
        let Some(awaited) = self.pods.get_mut(uid) else { return };
        let order = &mut self.order;
        awaited.answers.retain(|(number, answered)| {
            let waits = version.is_some_and(|version| *answered > version);
            if !waits {
                order.remove(number);
            }
            waits
        });
        if awaited.answers.is_empty() {
            self.pods.remove(uid);
        }
    }

    /// What the cache shows by now need not be kept.
    fn compare(&mut self, cache: &Index<KubePod>) {
        let is = |(namespace, name): &Named, uid: &str| {
            cache.get(namespace, name).filter(|cached| cached.metadata.uid.as_deref() == Some(uid))
        };
        let all: Vec<_> = self
            .pods
            .iter()
            .map(|(uid, awaited)| (uid.clone(), is(&awaited.named, uid).and_then(|pod| version(&pod))))
            .collect();
        for (uid, version) in all {
            self.shown(&uid, version);
        }
        self.gone.retain(|uid, named| is(named, uid).is_some());
    }
}

impl Default for Behind {
    fn default() -> Self {
        Self { known: Mutex::default(), oldest: watch::Sender::new(0) }
    }
}

impl Behind {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A patch or a read has answered this.
    pub(super) fn answered(&self, pod: &KubePod) {
        let (Some(uid), Some(version)) = (pod.uid(), version(pod)) else { return };
        let mut known = self.lock();
        let number = known.next;
        known.next += 1;
        known.gone.remove(&uid);
        known.order.insert(number, uid.clone());
        let new =
            || Awaited { named: (pod.namespace().unwrap_or_default(), pod.name_any()), answers: Vec::new() };
        known.pods.entry(uid).or_insert_with(new).answers.push((number, version));
    }

    /// The pod with this UID is gone, whatever the watch shows.
    pub(super) fn is_known_to_be_gone(&self, namespace: &str, name: &str, uid: &str) {
        let mut known = self.lock();
        known.shown(uid, None);
        known.gone.insert(uid.to_owned(), (namespace.to_owned(), name.to_owned()));
        self.tell(&known);
    }

    /// Whether the pod with this UID is known to be gone, although the watch shows it.
    pub(super) fn is_gone(&self, uid: &str) -> bool {
        self.lock().gone.contains_key(uid)
    }

    /// The watch has shown this, and the cache has it.
    pub(super) fn saw(&self, event: &Event<KubePod>, cache: &Index<KubePod>) {
        let mut known = self.lock();
        match event {
            Event::Apply(pod) => known.shown(pod.metadata.uid.as_deref().unwrap_or_default(), version(pod)),
            Event::Delete(pod) => {
                let uid = pod.metadata.uid.as_deref().unwrap_or_default();
                known.shown(uid, None);
                known.gone.remove(uid);
            }
            Event::InitDone => known.compare(cache),
            Event::Init | Event::InitApply(_) => return,
        }
        self.tell(&known);
    }

    fn tell(&self, known: &Known) {
        let oldest = known.oldest();
        self.oldest.send_if_modified(|told| std::mem::replace(told, oldest) != oldest);
    }

    /// Waits until the watch shows all that had been answered when this was called; false when it does not.
    pub(super) async fn caught_up(&self, cache: &Index<KubePod>) -> bool {
        let mut oldest = self.oldest.subscribe();
        let next = {
            let mut known = self.lock();
            known.compare(cache);
            self.tell(&known);
            known.next
        };
        matches!(tokio::time::timeout(CATCH_UP, oldest.wait_for(|oldest| *oldest >= next)).await, Ok(Ok(_)))
    }

    /// The pods that the watch has to catch up with, by UID: their resource version, or `None` if they are gone.
    #[cfg(test)]
    pub(super) fn awaited(&self) -> BTreeMap<String, Option<String>> {
        let known = self.lock();
        let newest =
            |awaited: &Awaited| awaited.answers.iter().map(|(_, version)| version.to_string()).next_back();
        let pods = known.pods.iter().map(|(uid, awaited)| (uid.clone(), newest(awaited)));
        pods.chain(known.gone.keys().map(|uid| (uid.clone(), None))).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::time::Instant;

    use super::*;

    fn pod(name: &str, uid: &str, version: u64) -> KubePod {
        let metadata =
            json!({ "name": name, "namespace": "shop", "uid": uid, "resourceVersion": version.to_string() });
        serde_json::from_value(json!({ "metadata": metadata })).unwrap()
    }

    struct Rig {
        behind: Behind,
        cache: Index<KubePod>,
    }

    impl Rig {
        /// With these pods in the cache.
        fn new(pods: &[KubePod]) -> Self {
            let rig = Self { behind: Behind::default(), cache: Index::default() };
            rig.list(pods);
            rig
        }

        fn event(&self, event: &Event<KubePod>) {
            self.cache.saw(event);
            self.behind.saw(event, &self.cache);
        }

        fn list(&self, pods: &[KubePod]) {
            self.event(&Event::Init);
            for pod in pods {
                self.event(&Event::InitApply(pod.clone()));
            }
            self.event(&Event::InitDone);
        }

        async fn caught_up(&self) -> bool {
            self.behind.caught_up(&self.cache).await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_answered_before_is_waited_for_until_the_watch_shows_it_or_something_newer() {
        for shown in [6, 7] {
            let rig = Rig::new(&[pod("a", "1", 5)]);
            assert!(rig.caught_up().await, "nothing was answered");
            rig.behind.answered(&pod("a", "1", 6));
            assert!(!rig.caught_up().await);
            rig.event(&Event::Apply(pod("a", "1", shown)));
            assert!(rig.caught_up().await, "{shown}");
            assert_eq!(rig.behind.awaited(), BTreeMap::new());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_second_of_two_answers_of_a_pod_is_waited_for_too() {
        let rig = Rig::new(&[pod("a", "1", 5)]);
        rig.behind.answered(&pod("a", "1", 6));
        rig.behind.answered(&pod("a", "1", 8));
        rig.event(&Event::Apply(pod("a", "1", 7)));
        assert!(!rig.caught_up().await);
        rig.event(&Event::Apply(pod("a", "1", 8)));
        assert!(rig.caught_up().await);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_what_is_answered_after_the_wait_began() {
        let rig = Rig::new(&[pod("a", "1", 5), pod("b", "2", 5)]);
        rig.behind.answered(&pod("a", "1", 6));
        let begun = Instant::now();
        let mut wait = std::pin::pin!(rig.caught_up());
        assert!(futures::poll!(wait.as_mut()).is_pending());
        // Others go on all the time.
        rig.behind.answered(&pod("b", "2", 7));
        rig.event(&Event::Apply(pod("a", "1", 6)));
        assert!(wait.await);
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert!(!rig.caught_up().await, "who comes later waits for it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_is_gone_is_left_out_until_the_watch_shows_that_and_is_not_waited_for() {
        let rig = Rig::new(&[pod("a", "1", 5)]);
        rig.behind.answered(&pod("a", "1", 6));
        rig.behind.is_known_to_be_gone("shop", "a", "1");
        assert!(rig.caught_up().await);
        assert!(rig.behind.is_gone("1") && !rig.behind.is_gone("2"));
        rig.event(&Event::Delete(pod("a", "1", 7)));
        assert!(!rig.behind.is_gone("1"));
        // What was answered for a pod of which the watch had shown the end before.
        rig.behind.answered(&pod("a", "1", 6));
        assert!(rig.caught_up().await);
        assert_eq!(rig.behind.awaited(), BTreeMap::new());
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_shows_what_a_broken_watch_has_missed() {
        let rig = Rig::new(&[pod("a", "1", 5), pod("b", "2", 5)]);
        for answered in [pod("a", "1", 6), pod("b", "2", 6)] {
            rig.behind.answered(&answered);
        }
        rig.behind.is_known_to_be_gone("shop", "c", "3");
        // Another pod has taken the name of the second one.
        rig.list(&[pod("a", "1", 6), pod("b", "4", 9)]);
        assert!(rig.caught_up().await);
        assert_eq!(rig.behind.awaited(), BTreeMap::new());
    }
}
