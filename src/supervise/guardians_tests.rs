//! What is heard of the guardians, and what follows.

use super::*;

const KILLED: Ended = Ended::Signalled(9);

fn pid(number: i32) -> Pid {
    Pid::from_raw(number).unwrap()
}

/// With the outer guardian 2, the inner one 3, and the program 4.
fn ledger() -> Ledger {
    let mut ledger = Ledger::new(pid(2));
    assert_eq!(ledger.hear(Which::Outer, News::parse("started 2 3").unwrap()), None);
    let started = ledger.hear(Which::Inner, News::parse("started 3 4").unwrap());
    assert_eq!(started, Some(Happening::ProgramStarted(pid(4))));
    ledger
}

fn ends(ledger: &mut Ledger, number: i32, ended: Ended) -> Option<Happening> {
    ledger.hear(Which::Outer, News::Ended(pid(number), ended))
}

#[test]
fn nothing_is_left_when_the_outer_guardian_says_so() {
    let mut ledger = ledger();
    let ended = ledger.hear(Which::Inner, News::parse("ended 4 exit 7").unwrap());
    assert_eq!(ended, Some(Happening::ProgramEnded(Ended::Exited(7))));
    assert!(!ledger.is_over(), "what it started may live on");
    assert_eq!(ends(&mut ledger, 3, Ended::Exited(0)), None);
    assert_eq!(ledger.hear(Which::Inner, News::Closed), None);
    assert_eq!(ends(&mut ledger, 2, Ended::Exited(0)), Some(Happening::NothingLeft));
    assert!(ledger.is_over() && ledger.status == Some(Ended::Exited(7)));
}

#[test]
fn when_one_guardian_is_killed_the_word_of_the_other_counts() {
    let mut outer_lost = ledger();
    assert_eq!(ends(&mut outer_lost, 2, KILLED), Some(Happening::OneLost));
    assert!(!outer_lost.is_over() && !outer_lost.is_alone());
    assert_eq!(ends(&mut outer_lost, 3, Ended::Exited(0)), Some(Happening::NothingLeft));

    let mut inner_lost = ledger();
    assert_eq!(ends(&mut inner_lost, 3, KILLED), Some(Happening::OneLost));
    assert_eq!(ends(&mut inner_lost, 4, KILLED), Some(Happening::ProgramEnded(KILLED)));
    assert!(!inner_lost.is_over());
    assert_eq!(ends(&mut inner_lost, 2, Ended::Exited(0)), Some(Happening::NothingLeft));
}

#[test]
fn when_both_are_killed_nobody_has_seen_the_end() {
    for order in [[2, 3], [3, 2]] {
        let mut ledger = ledger();
        assert_eq!(ends(&mut ledger, order[0], KILLED), Some(Happening::OneLost));
        assert_eq!(ends(&mut ledger, order[1], KILLED), Some(Happening::BothLost));
        assert!(ledger.is_alone() && !ledger.is_over());
        assert_eq!(ends(&mut ledger, 4, KILLED), Some(Happening::ProgramEnded(KILLED)));
    }
    // The outer one was killed between fetching the inner one and saying so.
    for silent_first in [true, false] {
        let mut ledger = ledger();
        let mut heard = Vec::new();
        if silent_first {
            heard.push(ledger.hear(Which::Inner, News::Closed));
            heard.push(ends(&mut ledger, 2, KILLED));
        } else {
            heard.push(ends(&mut ledger, 2, KILLED));
            heard.push(ledger.hear(Which::Inner, News::Closed));
        }
        assert_eq!(heard.last(), Some(&Some(Happening::BothLost)), "{heard:?}");
        assert!(ledger.is_alone());
    }
    let mut early = Ledger::new(pid(2));
    assert_eq!(ends(&mut early, 2, KILLED), Some(Happening::BothLost));
}

#[test]
fn the_program_ends_once_and_strangers_are_none_of_it() {
    let mut ledger = ledger();
    assert_eq!(ends(&mut ledger, 4, Ended::Exited(7)), Some(Happening::ProgramEnded(Ended::Exited(7))));
    assert_eq!(ends(&mut ledger, 4, KILLED), None, "its number was used again");
    assert_eq!(ends(&mut ledger, 5, KILLED), None);
    assert_eq!(ledger.status, Some(Ended::Exited(7)));
}

#[test]
fn lines_that_mean_nothing_are_passed_over() {
    for line in ["", "started", "started 3", "started 0 4", "ended 4", "ended 4 exit", "ended 4 x 7", "x"] {
        assert_eq!(News::parse(line), None, "{line:?}");
    }
    assert_eq!(News::parse("failed 2"), Some(News::Failed(2)));
}
