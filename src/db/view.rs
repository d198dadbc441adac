//! What a member knows of itself and of its cluster, looked at now and then: probes read it, and cost no question each.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::clock::{Clock, SystemClock};
use crate::database::{Engine, Member, Observed, Role};
use crate::election::{ComponentName, Moment};
use crate::member::{Settings, Standing, State, Supervisor};
use crate::participant::TermObserver;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// How long a look may take.
const LIMIT: Duration = Duration::from_secs(2);
/// How long its answer holds.
const FRESH: Duration = Duration::from_secs(5);

/// One look at the own server and at the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    at: Moment,
    runs: bool,
    /// Bytes of the primary's log that cannot be read here yet; while it receives.
    lag: Option<u64>,
    /// The version whose record has this member among those that acknowledge.
    votes: Option<i64>,
}

/// What is known.
#[derive(Debug)]
pub(super) struct View {
    pub(super) cluster: ComponentName,
    pub(super) member: Member,
    state: watch::Receiver<State>,
    seen: Mutex<Option<Seen>>,
}

/// What a member is, as far as others may count on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Is {
    /// It acknowledges writes, under this version.
    Primary(i64),
    /// It follows the primary of this version.
    Replica {
        version: i64,
        /// Bytes; `None` where it is not known now.
        lag: Option<u64>,
        /// Whether the record has it among those that acknowledge.
        votes: bool,
    },
    /// It takes no writes and follows nobody: sealed, coming back, waiting for a primary, or not running.
    Neither { runs: bool },
}

impl View {
    pub(super) fn new<E: Engine + 'static>(of: &Supervisor<E>) -> Self {
        let Settings { component, member, .. } = of.settings().clone();
        Self { cluster: component, member, state: of.state(), seen: Mutex::default() }
    }

    fn seen(&self) -> Option<Seen> {
        let seen = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.filter(|seen| SystemClock.boot().saturating_sub(seen.at) <= FRESH)
    }

    /// Computed at the call: a primary is one only while its term lasts, or other members acknowledge its writes.
    pub(super) fn is<E: Engine + 'static>(&self, member: &Supervisor<E>) -> Is {
        let leads = member.participant().term().filter(TermObserver::is_valid).map(|term| term.version());
        judge(*self.state.borrow(), leads, member.is_proven(), self.seen())
    }

    fn saw(&self, runs: bool, lag: Option<u64>, standing: Option<Standing>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let votes = match standing {
            Some(standing) => standing.record.and_then(|(record, version)| {
                record.quorum.voters().contains(&self.member).then_some(version)
            }),
            // A store that does not answer makes no voter less of one, as long as it follows under that version.
            None => seen.and_then(|before| before.votes),
        };
        *seen = Some(Seen { at: SystemClock.boot(), runs, lag, votes });
    }

    /// Looks until the process ends. What stands beside the lease the member has read anyway.
    pub(super) async fn keep<E: Engine + 'static>(&self, member: &Supervisor<E>) {
        loop {
            let engine = member.engine();
            let observed = async {
                let observed = engine.runs().then(|| timeout(LIMIT, engine.observe()))?;
                observed.await.ok()?.ok()
            };
            let observed = observed.await;
            self.saw(observed.is_some(), observed.as_ref().and_then(lag), member.standing());
            sleep(LOOK).await;
        }
    }
}

/// As Patroni counts it: what the primary has and this member does not show, as far as it knows. `None` unless it receives, as it knows nothing
/// new then.
fn lag(seen: &Observed) -> Option<u64> {
    let receives = seen.receives.as_ref().filter(|_| seen.role == Role::Standby)?;
    Some(receives.end.max(seen.position.end).saturating_sub(seen.applied))
}

fn judge(state: State, leads: Option<i64>, is_proven: bool, seen: Option<Seen>) -> Is {
    let runs = seen.is_some_and(|seen| seen.runs);
    match state {
        State::Primary(version) if leads == Some(version) || leads.is_none() && is_proven => {
            Is::Primary(version)
        }
        State::Follows(version) if runs => Is::Replica {
            version,
            lag: seen.and_then(|seen| seen.lag),
            votes: seen.is_some_and(|seen| seen.votes == Some(version)),
        },
        _ => Is::Neither { runs },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::Received;
    use crate::primary::{Position, Quorum, Record};

    #[test]
    fn a_lag_is_all_that_the_primary_has_and_this_member_does_not_show() {
        let seen = |end, applied, primary: Option<u64>| Observed {
            role: Role::Standby,
            system: 7,
            position: Position { term: 1, end },
            applied,
            sealed: 1,
            line: 1,
            receives: primary.map(|end| Received { host: "a".to_owned(), port: 1, line: 1, end }),
            tampered: Vec::new(),
        };
        assert_eq!(lag(&seen(100, 90, Some(100))), Some(10), "received, and not applied");
        assert_eq!(lag(&seen(100, 100, Some(175))), Some(75), "not received");
        assert_eq!(lag(&seen(100, 90, Some(175))), Some(85));
        assert_eq!(lag(&seen(100, 90, Some(80))), Some(10), "what the primary said last is older");
        assert_eq!(lag(&seen(100, 90, None)), None);
        let primary = Observed { role: Role::Primary, ..seen(100, 90, Some(100)) };
        assert_eq!(lag(&primary), None);
    }

    #[test]
    fn a_store_that_does_not_answer_makes_no_voter_less_of_one() {
        let quorum = Quorum::any(1, ["b".to_owned()].into()).unwrap();
        let members = ["a", "b"].map(str::to_owned).into();
        let record = Record { primary: "a".to_owned(), quorum, asynchronous: false, system: 7, members };
        let standing = |record| Standing { version: 3, record, ..Standing::default() };
        let view = View {
            cluster: ComponentName::new("orders").unwrap(),
            member: "b".to_owned(),
            state: watch::Sender::new(State::Follows(3)).subscribe(),
            seen: Mutex::default(),
        };
        let votes = |standing| {
            view.saw(true, None, standing);
            view.seen().unwrap().votes
        };
        assert_eq!(votes(None), None);
        assert_eq!(votes(Some(standing(Some((record, 3))))), Some(3));
        assert_eq!(votes(None), Some(3));
        assert_eq!(votes(Some(standing(None))), None);
    }

    #[test]
    fn a_member_is_what_its_term_and_its_server_say() {
        let seen = |votes| Some(Seen { at: Duration::ZERO, runs: true, lag: Some(7), votes });
        assert_eq!(judge(State::Primary(3), Some(3), false, seen(None)), Is::Primary(3));
        assert_eq!(judge(State::Primary(3), Some(3), false, None), Is::Primary(3));
        // Its term is over, or another one; or nothing is acknowledged yet.
        for (state, leads) in
            [(State::Primary(3), None), (State::Primary(3), Some(4)), (State::Closed(3), Some(3))]
        {
            assert_eq!(judge(state, leads, false, seen(None)), Is::Neither { runs: true });
        }
        // The lease's store is away, and other members acknowledge.
        assert_eq!(judge(State::Primary(3), None, true, seen(None)), Is::Primary(3));
        assert_eq!(judge(State::Primary(3), Some(4), true, seen(None)), Is::Neither { runs: true });
        assert_eq!(judge(State::Closed(3), None, true, seen(None)), Is::Neither { runs: true });
        let replica = |votes| Is::Replica { version: 3, lag: Some(7), votes };
        assert_eq!(judge(State::Follows(3), None, false, seen(None)), replica(false));
        assert_eq!(judge(State::Follows(3), None, false, seen(Some(3))), replica(true));
        assert_eq!(judge(State::Follows(3), None, false, seen(Some(2))), replica(false), "of another record");
        assert_eq!(
            judge(State::Follows(3), None, false, None),
            Is::Neither { runs: false },
            "nobody has looked lately"
        );
        assert_eq!(judge(State::Alone, None, false, seen(None)), Is::Neither { runs: true });
    }
}
