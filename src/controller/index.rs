//! Cached objects by what is asked for: a namespace may have thousands that do not matter, and nothing that concerns
//! one resource may take longer because there are many others.
//!
//! An object is found by marks, which are hashes: it may be found although it lacks what was asked for, so who asks
//! compares what is found. It is always found if it has it.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::{Arc, LazyLock, PoisonError, RwLock, RwLockReadGuard};

use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt as _;
use kube::runtime::watcher::Event;

use super::pods::KubePod;
use crate::routing::pod::{Requirement, Selector};

/// So long is the name of an object at most.
const OBJECT_NAME_MAX: usize = 253;

/// What objects are asked for by; of a namespace, where nothing else is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum By<'a> {
    /// All of the namespace.
    Namespace,
    Name(&'a str),
    /// Pods that carry this label, and resources that want it.
    Label(&'a str, &'a str),
    /// Pods that carry a label with this key, and resources that move or want it.
    LabelKey(&'a str),
    /// Pods that carry this annotation, and the resource that writes it.
    Annotation(&'a str),
    Address(&'a str),
    /// Resources that name this Service.
    Service(&'a str),
    /// Resources of which any pod may be a candidate, as far as their selectors name no label.
    AnyPod,
    /// Resources that came too late; of any namespace.
    Conflict,
    /// Resources that claim this key of the database; of any namespace.
    Component(&'a str),
    /// Services that the resource with this UID owns; of any namespace.
    Owner(&'a str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Mark(u64);

impl Mark {
    fn of(namespace: &str, by: By<'_>) -> Self {
        // Of this process: nobody can choose names that are found together.
        static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let namespace =
            if matches!(by, By::Component(_) | By::Owner(_) | By::Conflict) { "" } else { namespace };
        Self(KEYS.hash_one((namespace, by)))
    }
}

/// What an object is found by.
pub(super) trait Found {
    /// Whether `size` makes no difference to its marks: then they need not be kept.
    const PLAIN: bool;

    fn namespace(&self) -> &str;
    fn name(&self) -> &str;
    /// Beside its namespace and name. `size` says how many have a mark by now.
    fn marks(&self, add: &mut dyn FnMut(By<'_>), size: &dyn Fn(By<'_>) -> usize);
}

/// Cached objects of one kind.
#[derive(Debug)]
pub(super) struct Index<K>(RwLock<Caches<K>>);

#[derive(Debug)]
struct Caches<K> {
    known: Known<K>,
    /// What a list has shown so far that is not complete yet.
    listing: Known<K>,
    listed: bool,
}

#[derive(Debug)]
struct Known<K> {
    objects: Vec<Option<Object<K>>>,
    free: Vec<u32>,
    by: HashMap<Mark, Vec<u32>>,
}

#[derive(Debug)]
struct Object<K> {
    what: Arc<K>,
    /// Sorted; none where they can be found again.
    marks: Box<[Mark]>,
}

impl<K> Default for Index<K> {
    fn default() -> Self {
        Self(RwLock::new(Caches { known: Known::default(), listing: Known::default(), listed: false }))
    }
}

impl<K> Default for Known<K> {
    fn default() -> Self {
        Self { objects: Vec::new(), free: Vec::new(), by: HashMap::new() }
    }
}

impl<K: Found> Known<K> {
    fn find(&self, namespace: &str, name: &str) -> Option<u32> {
        let same = |at: &&u32| {
            self.at(**at)
                .is_some_and(|object| object.what.namespace() == namespace && object.what.name() == name)
        };
        self.by.get(&Mark::of(namespace, By::Name(name)))?.iter().find(same).copied()
    }

    fn at(&self, at: u32) -> Option<&Object<K>> {
        self.objects.get(at as usize)?.as_ref()
    }

    fn marks_of(&self, what: &K) -> Box<[Mark]> {
        let namespace = what.namespace();
        let mut marks = vec![Mark::of(namespace, By::Namespace), Mark::of(namespace, By::Name(what.name()))];
        let size = |by: By<'_>| self.by.get(&Mark::of(namespace, by)).map_or(0, Vec::len);
        what.marks(&mut |by| marks.push(Mark::of(namespace, by)), &size);
        marks.sort_unstable();
        marks.dedup();
        marks.into()
    }

    fn unmark(&mut self, mark: Mark, at: u32) {
        if let Some(all) = self.by.get_mut(&mark) {
            if let Some(place) = all.iter().position(|other| *other == at) {
                all.swap_remove(place);
            }
            if all.is_empty() {
                self.by.remove(&mark);
            }
        }
    }

    fn marks_of_old(&self, old: &Object<K>) -> Box<[Mark]> {
        if K::PLAIN { self.marks_of(&old.what) } else { old.marks.clone() }
    }

    fn put(&mut self, what: Arc<K>) -> Option<Arc<K>> {
        let at = self.find(what.namespace(), what.name());
        let old = at.and_then(|at| self.objects.get_mut(at as usize)?.take());
        let before = old.as_ref().map(|old| self.marks_of_old(old)).unwrap_or_default();
        let marks = self.marks_of(&what);
        let at = at.or_else(|| self.free.pop()).unwrap_or_else(|| {
            self.objects.push(None);
            u32::try_from(self.objects.len() - 1).unwrap_or(u32::MAX)
        });
        for mark in before.iter().filter(|mark| marks.binary_search(mark).is_err()) {
            self.unmark(*mark, at);
        }
        for mark in marks.iter().filter(|mark| before.binary_search(mark).is_err()) {
            self.by.entry(*mark).or_default().push(at);
        }
        let marks = if K::PLAIN { Box::default() } else { marks };
        if let Some(place) = self.objects.get_mut(at as usize) {
            *place = Some(Object { what, marks });
        }
        old.map(|old| old.what)
    }

    fn remove(&mut self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let at = self.find(namespace, name)?;
        let old = self.objects.get_mut(at as usize)?.take()?;
        for mark in self.marks_of_old(&old) {
            self.unmark(mark, at);
        }
        self.free.push(at);
        Some(old.what)
    }
}

impl<K: Found> Index<K> {
    fn read(&self) -> RwLockReadGuard<'_, Caches<K>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The watch has shown this. What the object was before, of which it tells; the first list tells of none.
    pub(super) fn saw(&self, event: &Event<K>) -> Option<Arc<K>>
    where
        K: Clone,
    {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => all.listing = Known::default(),
            Event::InitApply(object) => {
                all.listing.put(Arc::new(object.clone()));
            }
            Event::InitDone => {
                all.known = std::mem::take(&mut all.listing);
                all.listed = true;
            }
            Event::Apply(object) => return all.known.put(Arc::new(object.clone())),
            Event::Delete(object) => return all.known.remove(object.namespace(), object.name()),
        }
        None
    }

    /// Whether all have been listed once.
    pub(super) fn listed(&self) -> bool {
        self.read().listed
    }

    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let all = self.read();
        all.known.find(namespace, name).and_then(|at| all.known.at(at)).map(|object| Arc::clone(&object.what))
    }

    /// All of them, of all namespaces.
    pub(super) fn all(&self) -> Vec<Arc<K>> {
        self.read().known.objects.iter().flatten().map(|object| Arc::clone(&object.what)).collect()
    }

    /// Those of a namespace that have one of these marks at least, each once.
    pub(super) fn of<'b>(&self, namespace: &str, by: impl IntoIterator<Item = By<'b>>) -> Vec<Arc<K>> {
        let all = self.read();
        let sets = by.into_iter().filter_map(|by| all.known.by.get(&Mark::of(namespace, by)));
        let mut found: Vec<u32> = sets.flatten().copied().collect();
        found.sort_unstable();
        found.dedup();
        let objects = found.into_iter().filter_map(|at| all.known.at(at));
        objects.map(|object| Arc::clone(&object.what)).collect()
    }
}

impl Index<KubePod> {
    /// Among these are all that match the selector.
    pub(super) fn candidates<'s>(&self, namespace: &str, selector: &'s Selector) -> Vec<By<'s>> {
        let all = self.read();
        let size = |by: By<'_>| all.known.by.get(&Mark::of(namespace, by)).map_or(0, Vec::len);
        narrowest(selector, &size).unwrap_or_else(|| vec![By::Namespace])
    }
}

/// One requirement of the selector that the fewest have: all must hold, so what lacks one is no match. `None` where
/// all of them say what a pod must not carry.
pub(super) fn narrowest<'s>(selector: &'s Selector, size: &dyn Fn(By<'_>) -> usize) -> Option<Vec<By<'s>>> {
    let ways = selector.requirements().iter().filter_map(|requirement| match requirement {
        Requirement::In(key, values) => {
            Some(values.iter().map(|value| By::Label(key, value)).collect::<Vec<_>>())
        }
        Requirement::Exists(key) => Some(vec![By::LabelKey(key)]),
        Requirement::NotIn(..) | Requirement::DoesNotExist(_) => None,
    });
    let cost = |way: &Vec<By<'_>>| way.iter().map(|by| size(*by)).sum::<usize>();
    ways.min_by_key(cost)
}

/// How a holder begins: one of these may be a pod's name or address. No object has a longer name, and anybody may write a holder
/// of any length.
pub(super) fn beginnings(holder: &str) -> impl Iterator<Item = &str> {
    (1..=holder.len().min(OBJECT_NAME_MAX)).filter_map(|end| holder.get(..end))
}

impl Found for KubePod {
    const PLAIN: bool = true;

    fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    fn marks(&self, add: &mut dyn FnMut(By<'_>), _: &dyn Fn(By<'_>) -> usize) {
        for (key, value) in self.labels() {
            add(By::Label(key, value));
            add(By::LabelKey(key));
        }
        self.annotated().for_each(|key| add(By::Annotation(key)));
        self.status.iter().flat_map(|status| &status.ips).for_each(|ip| add(By::Address(ip)));
    }
}

impl Found for Service {
    const PLAIN: bool = true;

    fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    fn marks(&self, add: &mut dyn FnMut(By<'_>), _: &dyn Fn(By<'_>) -> usize) {
        self.owner_references().iter().for_each(|owner| add(By::Owner(&owner.uid)));
    }
}

/// By which the resources are found that a pod concerns, or may.
pub(super) fn concerned_by(pod: &KubePod) -> impl Iterator<Item = By<'_>> {
    let labels = pod.labels().iter().flat_map(|(key, value)| [By::Label(key, value), By::LabelKey(key)]);
    labels.chain(pod.annotated().map(By::Annotation)).chain([By::AnyPod])
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
