use std::collections::BTreeSet;

use super::bearer::{Claim, bearer, gives_way, identity_of, name_of, one_of_each_name};

fn set(bearers: &[&str]) -> BTreeSet<String> {
    bearers.iter().map(|bearer| (*bearer).to_owned()).collect()
}

fn claim(identity: &str, session: &str, after: &str) -> Claim {
    let [identity, session, after] = [identity, session, after].map(str::to_owned);
    Claim { identity, session, after }
}

#[test]
fn a_bearer_is_a_name_and_an_identity() {
    let b = bearer("db-1.example", "0a1b");
    assert_eq!((name_of(&b), identity_of(&b)), ("db-1.example", "0a1b"));
    assert_eq!((name_of("db-1"), identity_of("db-1")), ("db-1", ""));
}

#[test]
fn a_name_that_two_bear_counts_once_and_the_one_that_counted_before_goes_first() {
    let three = set(&["a@1", "b@1", "b@2"]);
    assert_eq!(one_of_each_name(&three, &set(&["b@2", "c@1"])), set(&["a@1", "b@2"]));
    assert_eq!(one_of_each_name(&three, &set(&["b@1"])), set(&["a@1", "b@1"]));
    assert_eq!(one_of_each_name(&three, &set(&["b@9"])).len(), 2, "somebody has to count");
    assert_eq!(one_of_each_name(&set(&["b@2"]), &set(&["b@1"])), set(&["b@2"]), "the one that is there");
}

#[test]
fn of_two_processes_that_bear_one_name_exactly_one_gives_way() {
    let all: Vec<Claim> = ["1", "2"]
        .iter()
        .flat_map(|identity| {
            ["p", "q"].iter().flat_map(move |session| {
                ["", "p", "q"].iter().map(move |after| claim(identity, session, after))
            })
        })
        .collect();
    for own in &all {
        for other in all.iter().filter(|other| other.session != own.session) {
            for recorded in [None, Some("1"), Some("2"), Some("3")] {
                assert_ne!(
                    gives_way(own, other, recorded),
                    gives_way(other, own, recorded),
                    "{own:?} {other:?} {recorded:?}"
                );
            }
        }
    }
}

#[test]
fn the_one_that_the_record_names_goes_on_and_else_the_one_that_was_there_before() {
    let (first, second) = (claim("1", "z", ""), claim("1", "a", "z"));
    assert!(
        gives_way(&second, &first, None) && !gives_way(&first, &second, None),
        "a copy of the whole volume"
    );
    let copy = claim("2", "a", "z");
    assert!(gives_way(&copy, &first, Some("1")) && gives_way(&first, &copy, Some("2")));
}
