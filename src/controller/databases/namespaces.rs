//! One task for each namespace that has a database.

use std::collections::{BTreeMap, BTreeSet};

use tokio::task::{AbortHandle, JoinSet};

/// The tasks that run, by namespace; all end when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    running: BTreeMap<String, AbortHandle>,
    tasks: JoinSet<()>,
}

/// How a task ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It was stopped, as nobody needs that namespace any more.
    Stopped(String),
    /// By itself, which none should: it panicked, or has nothing left to do.
    ByItself,
}

impl Tasks {
    /// Stops those of other namespaces, and begins the ones that lack. A namespace whose task is being stopped gets no new one
    /// before that one has ended.
    pub(super) fn keep<T>(&mut self, wanted: BTreeSet<String>, task: impl Fn(String) -> T)
    where
        T: Future<Output = ()> + Send + 'static,
    {
        self.running
            .iter()
            .filter(|(namespace, _)| !wanted.contains(*namespace))
            .for_each(|(_, task)| task.abort());
        for namespace in wanted {
            let tasks = &mut self.tasks;
            self.running.entry(namespace.clone()).or_insert_with(|| tasks.spawn(task(namespace)));
        }
    }

    /// Waits until a watch has ended. Without any watch it waits for ever.
    pub(super) async fn ended(&mut self) -> Ended {
        let Some(ended) = self.tasks.join_next_with_id().await else { return std::future::pending().await };
        let stopped = ended.err().filter(tokio::task::JoinError::is_cancelled).map(|error| error.id());
        let namespace = self.running.iter().find(|(_, task)| Some(task.id()) == stopped);
        let Some(namespace) = namespace.map(|(namespace, _)| namespace.clone()) else {
            return Ended::ByItself;
        };
        self.running.remove(&namespace);
        Ended::Stopped(namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[tokio::test]
    async fn a_task_of_a_namespace_that_nobody_needs_is_stopped_and_begins_anew_after_it_has_ended() {
        let mut tasks = Tasks::default();
        let forever = |_| std::future::pending();
        tasks.keep(names(&["bank", "shop"]), forever);
        tasks.keep(names(&["shop"]), forever);
        tasks.keep(names(&["bank", "shop"]), forever);
        assert_eq!(tasks.tasks.len(), 2, "the old one has not ended yet");
        assert_eq!(tasks.ended().await, Ended::Stopped("bank".to_owned()));
        tasks.keep(names(&["bank", "shop"]), forever);
        assert_eq!((tasks.tasks.len(), tasks.running.len()), (2, 2));
    }

    #[tokio::test]
    async fn a_task_that_panics_or_just_ends_is_noticed() {
        for panics in [true, false] {
            let mut tasks = Tasks::default();
            tasks.keep(names(&["shop"]), |_| async move { assert!(!panics, "on purpose") });
            assert_eq!(tasks.ended().await, Ended::ByItself, "panics: {panics}");
        }
    }
}
