use std::hash::{DefaultHasher, Hash, Hasher};

use super::{Bits, NAMES, NODES, Node, Primary, Recorded, Store, World, name_of};

impl World {
    /// As if the members had each other's names.
    fn renamed(&self, names: [u8; NODES as usize]) -> Self {
        let name = |node: u8| names[node as usize];
        let bits = |bits: u8| {
            (0..NODES).filter(|node| bits & (1 << node) != 0).fold(0, |all, node| all | 1 << name(node))
        };
        let quorum = |(voters, acks): Bits| (bits(voters), acks);
        let recorded = |recorded: Recorded| Recorded {
            primary: name(recorded.primary),
            quorum: quorum(recorded.quorum),
            ..recorded
        };
        let store = |store: Store| {
            let mut reports = [None; NAMES as usize];
            for (by, position) in store.reports.into_iter().flatten() {
                reports[name_of(name(by)) as usize] = Some((name(by), position));
            }
            Store { holder: name(store.holder), recorded: recorded(store.recorded), reports, ..store }
        };
        let mut renamed = *self;
        for (node, as_it_is) in (0..NODES).zip(&self.nodes) {
            let primary = as_it_is.primary.map(|primary| {
                let mut heard = primary.heard;
                (0..NODES).for_each(|from| heard[name(from) as usize] = primary.heard[from as usize]);
                Primary {
                    names: primary.names.map(quorum),
                    record: primary.record.map(quorum),
                    heard,
                    ..primary
                }
            });
            renamed.nodes[name(node) as usize] =
                Node { primary, follows: as_it_is.follows.map(name), ..*as_it_is };
        }
        renamed.store = store(self.store);
        renamed.saved = self.saved.map(store);
        renamed.known = recorded(self.known);
        renamed.newest = self.newest.map(name);
        renamed
    }

    /// The same for two worlds in which only the members' names differ: from there on the same may happen. A name that two bear is another one than the rest.
    pub(in crate::database) fn fingerprint(&self) -> u64 {
        const ALL: [[u8; NODES as usize]; 6] =
            [[0, 1, 2, 3], [1, 0, 2, 3], [0, 2, 1, 3], [1, 2, 0, 3], [2, 0, 1, 3], [2, 1, 0, 3]];
        let renamings = if self.there == NODES { &ALL[..2] } else { &ALL[..] };
        renamings
            .iter()
            .map(|names| {
                let mut hasher = DefaultHasher::new();
                self.renamed(*names).hash(&mut hasher);
                hasher.finish()
            })
            .min()
            .unwrap()
    }
}
