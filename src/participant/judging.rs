//! A leader whose program judges what operators ask, before it makes way.

use crate::election::machine::Looked;

/// What the program of a participant says of requests.
#[derive(Debug, Default)]
pub(super) struct Judging {
    /// Without its word the leader makes way for nobody.
    pub(super) deliberate: bool,
    /// The id of the request for which it makes way, at the next look: what was judged does not hold for later ones.
    pub(super) granted: Option<String>,
    /// That request has to be looked at: where nothing tells of changes, a leader looks seldom or never.
    pub(super) look: bool,
}

impl Judging {
    /// What a look tells the election of a leader: no request that its program has not judged yet.
    pub(super) fn of_a_leader(&mut self, mut looked: Looked) -> Looked {
        if self.deliberate {
            let granted = self.granted.take();
            looked.request = looked.request.filter(|request| granted.as_ref() == Some(&request.id));
        }
        looked
    }
}
