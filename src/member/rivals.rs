//! Whether another process bears the name of this member. Both write the same report, so each finds what the other wrote after it.

use std::time::Duration;

use crate::election::Moment;
use crate::primary::Claim;
use crate::primary::bearer::gives_way;

/// How long a process says who it is before it says what its data have: as long as another needs to find that, and to answer.
const INTRODUCTION: Duration = Duration::from_secs(3);
/// A write that was under way when its process ended may come late, once. Another process is alive that is found so often within this time.
const TIMES: u32 = 2;
const WITHIN: Duration = Duration::from_secs(60);

/// What is known of others.
#[derive(Debug)]
pub(super) struct Rivals {
    own: Claim,
    /// The own report was looked at once.
    looked: bool,
    /// The own claim was written after the last look that did not find it.
    wrote: bool,
    /// Since when it stands there, if it ever did.
    introduced: Introduced,
    /// How often another's claim was found in place of our own, and when first.
    found: Option<(u32, Moment)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Introduced {
    Not,
    Says(Moment),
    Done,
}

/// What is to be done after a look at the own report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing.
    Go,
    /// Wait: somebody may answer.
    Wait,
    /// Say who this is, in place of what is there.
    Say,
    /// Another process is alive. This one goes on, and says again who it is.
    Stay(Claim),
    /// Another process is alive, and this one ends.
    GiveWay(Claim),
}

impl Rivals {
    pub(super) fn new(identity: &str) -> Self {
        let session = format!("{:016x}", fastrand::u64(..));
        let own = Claim { identity: identity.to_owned(), session, after: String::new() };
        Self { own, looked: false, wrote: false, introduced: Introduced::Not, found: None }
    }

    pub(super) fn claim(&self) -> Claim {
        self.own.clone()
    }

    /// `there` is the claim in the own report, and `recorded` the identity that the record has for this name.
    pub(super) fn next(&mut self, there: Option<&Claim>, recorded: Option<&str>, now: Moment) -> Next {
        let other = there.filter(|claim| claim.session != self.own.session);
        if !self.looked {
            self.looked = true;
            self.own.after = other.map(|claim| claim.session.clone()).unwrap_or_default();
        }
        // What stands there before this one has written is what an earlier process has left.
        if !self.wrote {
            return Next::Say;
        }
        if let Some(other) = other {
            self.wrote = false;
            if let Introduced::Says(_) = self.introduced {
                // It has answered, and is given the time to do so again.
                self.introduced = Introduced::Not;
            }
            let (times, since) = match self.found {
                Some((times, since)) if now < since + WITHIN => (times + 1, since),
                _ => (1, now),
            };
            self.found = Some((times, since));
            return match (times >= TIMES, gives_way(&self.own, other, recorded)) {
                (false, _) => Next::Say,
                (true, false) => Next::Stay(other.clone()),
                (true, true) => Next::GiveWay(other.clone()),
            };
        }
        if there.is_none() {
            // Somebody has removed it.
            self.wrote = false;
            return Next::Say;
        }
        match self.introduced {
            Introduced::Says(since) if now < since + INTRODUCTION => Next::Wait,
            _ => {
                self.introduced = Introduced::Done;
                Next::Go
            }
        }
    }

    /// The own claim was written into the report.
    pub(super) fn wrote(&mut self, now: Moment) {
        self.wrote = true;
        if self.introduced == Introduced::Not {
            self.introduced = Introduced::Says(now);
        }
    }

    /// Whether nobody has answered.
    pub(super) fn is_introduced(&self) -> bool {
        self.introduced == Introduced::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn a_process_that_is_alone_says_who_it_is_and_goes_on_when_nobody_has_answered() {
        let mut rivals = Rivals::new("1");
        let earlier = Claim { identity: "1".into(), session: "earlier".into(), after: String::new() };
        for failed in 10..14 {
            assert_eq!(rivals.next(Some(&earlier), None, S(failed)), Next::Say, "the store did not answer");
        }
        rivals.wrote(S(14));
        let own = rivals.claim();
        assert_eq!(own.after, "earlier");
        assert_eq!(rivals.next(Some(&own), None, S(16)), Next::Wait);
        assert!(!rivals.is_introduced());
        assert_eq!(rivals.next(Some(&own), None, S(17)), Next::Go);
        // A store that was restored shows what the earlier process wrote.
        for at in [20, 200] {
            assert_eq!(
                rivals.next(Some(&earlier), None, S(at)),
                Next::Say,
                "once is no proof that it is alive"
            );
            rivals.wrote(S(at));
            assert_eq!(rivals.next(Some(&own), None, S(at + 1)), Next::Go);
        }
        assert_eq!(rivals.next(None, None, S(300)), Next::Say);
        assert!(rivals.is_introduced());
    }

    /// Two that look and write in turn, until one gives way; which one that was.
    fn the_second_gives_way(first: &mut Rivals, second: &mut Rivals, recorded: Option<&str>) -> bool {
        let mut report: Option<Claim> = None;
        for turn in 0..60_u32 {
            let is_second = turn % 2 == 1;
            let one = if is_second { &mut *second } else { &mut *first };
            // The second one begins later.
            if is_second && turn < 11 {
                continue;
            }
            let now = Duration::from_millis(u64::from(turn) * 500);
            match one.next(report.as_ref(), recorded, now) {
                Next::Say | Next::Stay(_) => {
                    report = Some(one.claim());
                    one.wrote(now);
                }
                Next::GiveWay(_) => return is_second,
                Next::Go | Next::Wait => {}
            }
            assert!(!second.is_introduced(), "it is found before it says what its data have");
        }
        panic!("nobody gives way");
    }

    #[test]
    fn of_two_processes_on_copies_of_one_volume_the_later_one_gives_way_before_it_reports() {
        let new = Rivals::new;
        assert!(the_second_gives_way(&mut new("1"), &mut new("1"), Some("1")));
        assert!(the_second_gives_way(&mut new("1"), &mut new("2"), None));
        assert!(
            !the_second_gives_way(&mut new("2"), &mut new("1"), Some("1")),
            "the record names the later one"
        );
    }
}
