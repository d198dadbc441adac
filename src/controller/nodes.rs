//! Which nodes are cordoned: about to be drained. No other node is asked for, and of these only the name is kept.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::core::v1::Node;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt as _};

use super::caches::Scope;

const NODES: &str = "nodes";
/// By a field that the API server selects by: a large cluster has thousands of nodes, which change all the time.
const CORDONED: &str = "spec.unschedulable=true";

/// The nodes that take no new pods, by name.
#[derive(Debug, Default)]
pub(super) struct Nodes(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    cordoned: BTreeSet<String>,
    /// Of a list that is being read.
    listing: BTreeSet<String>,
}

impl Nodes {
    pub(super) fn are_cordoned(&self, node: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).cordoned.contains(node)
    }

    /// The nodes of which it is another case than before.
    fn saw<K: kube::Resource>(&self, event: &Event<K>) -> Vec<String> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => known.listing.clear(),
            Event::InitApply(node) => {
                known.listing.insert(node.name_any());
            }
            Event::InitDone => {
                let now = std::mem::take(&mut known.listing);
                let before = std::mem::replace(&mut known.cordoned, now);
                return before.symmetric_difference(&known.cordoned).cloned().collect();
            }
            Event::Apply(node) => {
                return known.cordoned.insert(node.name_any()).then(|| node.name_any()).into_iter().collect();
            }
            // One that is uncordoned leaves the selection, as one that is gone.
            Event::Delete(node) => {
                return known
                    .cordoned
                    .remove(&node.name_any())
                    .then(|| node.name_any())
                    .into_iter()
                    .collect();
            }
        }
        Vec::new()
    }
}

/// Keeps the nodes up to date. Where they were never listed, none is taken to be cordoned; where they cannot be watched any
/// more, those that were stay so.
/// The scope is any: nodes belong to no namespace. `changed` gets each that was cordoned or is not any more.
pub(super) async fn watch(nodes: &Nodes, client: Client, scope: &Scope, changed: impl Fn(&str)) {
    let api: Api<PartialObjectMeta<Node>> = Api::all(client);
    let events = watcher::watcher(api, watcher::Config::default().fields(CORDONED));
    let saw = |event: &Event<PartialObjectMeta<Node>>| {
        for node in nodes.saw(event) {
            changed(&node);
        }
    };
    scope.watch_kind(NODES, events, saw, || {}).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> Node {
        let mut node = Node::default();
        node.metadata.name = Some(name.to_owned());
        node
    }

    #[test]
    fn each_change_of_a_node_is_told_once_and_a_list_tells_what_was_missed() {
        let nodes = Nodes::default();
        let list = |names: &[&str]| {
            assert_eq!(nodes.saw(&Event::<Node>::Init), [""; 0]);
            for name in names {
                assert_eq!(nodes.saw(&Event::InitApply(node(name))), [""; 0]);
            }
            nodes.saw(&Event::<Node>::InitDone)
        };
        assert_eq!(list(&["a", "b"]), ["a", "b"]);
        assert!(nodes.are_cordoned("a") && !nodes.are_cordoned("c"));
        assert_eq!(nodes.saw(&Event::Apply(node("c"))), ["c"]);
        assert_eq!(nodes.saw(&Event::Apply(node("c"))), [""; 0], "a heartbeat of its kubelet");
        assert_eq!(nodes.saw(&Event::Delete(node("a"))), ["a"]);
        // The watch broke: while it is listed anew, what was known before holds.
        nodes.saw(&Event::<Node>::Init);
        assert!(nodes.are_cordoned("b"));
        assert_eq!(list(&["c", "d"]), ["b", "d"]);
        assert!(!nodes.are_cordoned("b") && nodes.are_cordoned("c") && nodes.are_cordoned("d"));
    }
}
