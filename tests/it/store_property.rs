//! Each database against the specification: the same random calls on both, the same answers.

use std::sync::Arc;

use component_lease::clock::SystemClock;
use component_lease::election::{Expected, LeaseRow};
use component_lease::store::{Directory, MemoryStore, Outcome, StandingIntent};
use component_lease_testkit::mysql::Kind;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Runtime;

use crate::stores::{Bench, component, row, take, taking, term};

#[derive(Debug, Clone)]
enum Call {
    Take { holder: &'static str, version_step: i64, ttl: u32, sight: Sight },
    Renew { holder: &'static str, version_step: i64 },
    Release { holder: &'static str, version_step: i64 },
    SetIntent { ttl: u32 },
    ClearIntent,
}

/// What the caller of a take believes to be there.
#[derive(Debug, Clone, Copy)]
enum Sight {
    Right,
    Missing,
    OtherVersion,
    OlderRenewTime,
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let holder = || prop_oneof![Just("a"), Just("b")];
    let step = || prop_oneof![4 => Just(0), 1 => Just(1), 1 => Just(-1)];
    let sight = prop_oneof![
        6 => Just(Sight::Right),
        1 => Just(Sight::Missing),
        1 => Just(Sight::OtherVersion),
        1 => Just(Sight::OlderRenewTime),
    ];
    let call = prop_oneof![
        4 => (holder(), 1..4i64, 1..100u32, sight).prop_map(|(holder, version_step, ttl, sight)| {
            Call::Take { holder, version_step, ttl, sight }
        }),
        4 => (holder(), step()).prop_map(|(holder, version_step)| Call::Renew { holder, version_step }),
        2 => (holder(), step()).prop_map(|(holder, version_step)| Call::Release { holder, version_step }),
        1 => (1..100u32).prop_map(|ttl| Call::SetIntent { ttl }),
        1 => Just(Call::ClearIntent),
    ];
    prop::collection::vec(call, 1..25)
}

/// Makes the call; the outcome, and the standing ttl and the row afterwards.
async fn make(
    store: &dyn Directory,
    name: &str,
    call: &Call,
) -> (Option<Outcome>, Option<u32>, Option<LeaseRow>, Option<LeaseRow>) {
    let before = row(store, name).await;
    let version = before.as_ref().map_or(0, |row| row.version);
    let outcome = match call {
        Call::Take { holder, version_step, ttl, sight } => {
            let mut take = take(&term(name, holder, version + version_step), before.as_ref());
            take.ttl = *ttl;
            take.expected = match (sight, &before) {
                (Sight::Right, _) => take.expected,
                (Sight::Missing, _) => Expected::Missing { highest: 0 },
                (Sight::OtherVersion, row) => Expected::Row {
                    version: version + 1,
                    renew_time: row.as_ref().map_or(0, |row| row.renew_time),
                },
                (Sight::OlderRenewTime, row) => {
                    Expected::Row { version, renew_time: row.as_ref().map_or(0, |row| row.renew_time) - 1 }
                }
            };
            Some(taking(store, &take).await.unwrap())
        }
        Call::Renew { holder, version_step } => {
            Some(store.renew(&term(name, holder, version + version_step)).await.unwrap())
        }
        Call::Release { holder, version_step } => {
            Some(store.release(&term(name, holder, version + version_step)).await.unwrap())
        }
        Call::SetIntent { ttl } => {
            store.set_intent(&component(name), StandingIntent::ttl(*ttl)).await.unwrap();
            None
        }
        Call::ClearIntent => {
            store.clear_intent(&component(name)).await.unwrap();
            None
        }
    };
    let looked = store.look(&component(name)).await.unwrap();
    (outcome, looked.standing_ttl, before, looked.row)
}

/// What two stores with clocks of their own have in common.
fn without_times(row: Option<&LeaseRow>) -> Option<(String, i64, i64, bool)> {
    row.map(|row| (row.holder.clone(), row.version, row.ttl, row.renew_time == 0))
}

fn agrees_with_the_specification(bench: impl AsyncFnOnce() -> Bench) {
    let runtime = Runtime::new().unwrap();
    let bench = runtime.block_on(bench());
    let mut runner = TestRunner::new(Config { cases: 60, failure_persistence: None, ..Config::default() });
    let mut number = 0;
    let number = std::cell::RefCell::new(&mut number);
    let done = runner.run(&calls(), |calls| {
        **number.borrow_mut() += 1;
        let name = format!("case{}", number.borrow());
        let specification = MemoryStore::new(Arc::new(SystemClock));
        runtime.block_on(async {
            for call in &calls {
                let (outcome, ttl, before, after) = make(&*bench.store, &name, call).await;
                let (right_outcome, right_ttl, _, right) = make(&specification, &name, call).await;
                prop_assert_eq!(outcome, right_outcome, "{:?}", call);
                prop_assert_eq!(ttl, right_ttl, "{:?}", call);
                prop_assert_eq!(without_times(after.as_ref()), without_times(right.as_ref()), "{:?}", call);
                let released = matches!(call, Call::Release { .. });
                if let (Some(Outcome::Applied), false, Some(before), Some(after)) =
                    (outcome, released, &before, &after)
                {
                    prop_assert!(after.renew_time > before.renew_time, "{:?}", call);
                }
                if outcome != Some(Outcome::Applied) {
                    prop_assert_eq!(&before, &after, "{:?}", call);
                }
            }
            Ok(())
        })
    });
    if let Err(error) = done {
        panic!("{error}");
    }
}

#[test]
fn sqlite_answers_as_the_specification_does() {
    agrees_with_the_specification(Bench::sqlite);
}

#[test]
fn postgres_answers_as_the_specification_does() {
    agrees_with_the_specification(Bench::postgres);
}

#[test]
fn postgres_behind_pgbouncer_answers_as_the_specification_does() {
    agrees_with_the_specification(Bench::pgbouncer);
}

#[test]
fn mariadb_answers_as_the_specification_does() {
    agrees_with_the_specification(async || Bench::mysql(Kind::MariaDb10_11).await);
}

#[test]
fn mysql_answers_as_the_specification_does() {
    agrees_with_the_specification(async || Bench::mysql(Kind::MySql9).await);
}
