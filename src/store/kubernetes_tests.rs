use super::fake_api::FakeApi;
use super::*;
use crate::election::{Expected, HolderId, LifeId};

const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/ours/leases/controller";

#[derive(Debug)]
struct StandingClock;

impl Clock for StandingClock {
    fn boot(&self) -> Duration {
        Duration::from_secs(100)
    }

    fn wall_ms(&self) -> i64 {
        1_764_000_000_000
    }
}

fn store(api: &FakeApi) -> KubernetesStore {
    KubernetesStore::new(api.client(), "ours", Arc::new(StandingClock))
}

fn term(holder: &str, version: i64) -> TermKey {
    let component = ComponentName::new("controller").unwrap();
    TermKey { component, holder: HolderId::new(holder).unwrap(), version }
}

/// A take by somebody who saw this.
fn take(term: &TermKey, seen: Option<&LeaseRow>) -> Take {
    let expected = Expected::of(seen);
    Take { term: term.clone(), ttl: 15, expected, life_id: LifeId::default() }
}

async fn seen(store: &KubernetesStore) -> Option<LeaseRow> {
    store.look(&ComponentName::new("controller").unwrap()).await.unwrap().row
}

#[tokio::test]
async fn of_two_replicas_that_saw_the_same_lease_one_gets_it() {
    for there in [false, true] {
        let api = FakeApi::default();
        let (a, b) = (store(&api), store(&api));
        if there {
            assert_eq!(
                a.take(&take(&term("old", 1), seen(&a).await.as_ref())).await.unwrap(),
                Outcome::Applied
            );
        }
        let version = if there { 2 } else { 1 };
        let (of_a, of_b) = (seen(&a).await, seen(&b).await);
        assert_eq!(of_a, of_b);
        assert_eq!(a.take(&take(&term("a", version), of_a.as_ref())).await.unwrap(), Outcome::Applied);
        // Its sight of the object is older than the take of the other.
        assert_eq!(
            b.take(&take(&term("b", version), of_b.as_ref())).await.unwrap(),
            Outcome::Lost,
            "{there}"
        );
        assert_eq!(seen(&b).await.unwrap().holder, "a");
        assert_eq!(a.renew(&term("a", version)).await.unwrap(), Outcome::Applied);
    }
}

#[tokio::test]
async fn every_write_of_the_lease_is_bound_to_the_object_that_was_seen() {
    let api = FakeApi::default();
    let a = store(&api);
    assert_eq!(a.take(&take(&term("a", 1), seen(&a).await.as_ref())).await.unwrap(), Outcome::Applied);
    let mut written = api.get(PATH);
    for release in [false, true] {
        let done = if release { a.release(&term("a", 1)).await } else { a.renew(&term("a", 1)).await };
        assert_eq!(done.unwrap(), Outcome::Applied);
        let (path, patch) = api.patches().pop().unwrap();
        assert_eq!(path, PATH);
        for key in ["resourceVersion", "uid"] {
            assert_eq!(patch["metadata"][key], written["metadata"][key], "{key}");
            assert!(patch["metadata"][key].is_string());
        }
        written = api.get(PATH);
    }
}

#[tokio::test]
async fn who_lost_the_lease_meanwhile_neither_renews_nor_releases_it() {
    let api = FakeApi::default();
    let (a, b) = (store(&api), store(&api));
    assert_eq!(a.take(&take(&term("a", 1), seen(&a).await.as_ref())).await.unwrap(), Outcome::Applied);
    assert_eq!(b.take(&take(&term("b", 2), seen(&b).await.as_ref())).await.unwrap(), Outcome::Applied);
    assert_eq!(a.renew(&term("a", 1)).await.unwrap(), Outcome::Lost);
    assert_eq!(a.release(&term("a", 1)).await.unwrap(), Outcome::Lost);
    assert_eq!(seen(&a).await.unwrap().holder, "b");
}

#[tokio::test]
async fn a_lease_that_somebody_only_touched_is_renewed_all_the_same() {
    let api = FakeApi::default();
    let a = store(&api);
    assert_eq!(a.take(&take(&term("a", 1), seen(&a).await.as_ref())).await.unwrap(), Outcome::Applied);
    api.touch(PATH);
    assert_eq!(a.renew(&term("a", 1)).await.unwrap(), Outcome::Applied);
    api.delete(PATH);
    assert_eq!(a.renew(&term("a", 1)).await.unwrap(), Outcome::Lost);
    assert_eq!(seen(&a).await, None);
}

#[tokio::test]
async fn an_answer_that_is_none_is_no_lost_race() {
    let api = FakeApi::default();
    let a = store(&api);
    assert_eq!(a.take(&take(&term("a", 1), seen(&a).await.as_ref())).await.unwrap(), Outcome::Applied);
    for (code, misconfigured) in [(403, true), (500, false), (429, false)] {
        api.fail(PATH, code);
        let error = a.renew(&term("a", 1)).await.unwrap_err();
        assert_eq!(matches!(error, StoreError::Misconfigured { .. }), misconfigured, "{error}");
    }
}

#[tokio::test]
async fn what_an_object_cannot_hold_is_refused_and_nothing_is_written() {
    let api = FakeApi::default();
    let a = store(&api);
    let beyond = term("a", i64::from(i32::MAX) + 1);
    let refused = a.take(&take(&beyond, seen(&a).await.as_ref())).await.unwrap_err();
    assert!(
        matches!(&refused, StoreError::Misconfigured { message: why, .. } if why.contains("2147483648")),
        "{refused}"
    );
    assert_eq!(seen(&a).await, None);
    for name in ["Controller", "shop/controller", "a..b", "-a", "a-", "\u{fc}"] {
        let component = ComponentName::new(name).unwrap();
        let refused = a.look(&component).await.unwrap_err();
        assert!(
            matches!(&refused, StoreError::Misconfigured { message: why, .. } if why.contains(name)),
            "{refused}"
        );
    }
    for name in ["a", "shop.controller-2"] {
        assert_eq!(a.look(&ComponentName::new(name).unwrap()).await.unwrap().row, None);
    }
}

#[tokio::test]
async fn each_component_has_an_object_of_its_own() {
    let api = FakeApi::default();
    let (a, other) = (store(&api), ComponentName::new("other").unwrap());
    assert_eq!(a.take(&take(&term("a", 1), None)).await.unwrap(), Outcome::Applied);
    assert_eq!(a.look(&other).await.unwrap().row, None);
    let of_other = TermKey { component: other.clone(), holder: HolderId::new("b").unwrap(), version: 1 };
    assert_eq!(a.take(&take(&of_other, None)).await.unwrap(), Outcome::Applied);
    assert_eq!(a.look(&other).await.unwrap().row.unwrap().holder, "b");
    assert_eq!(seen(&a).await.unwrap().holder, "a");
}

#[tokio::test]
async fn an_annotation_in_place_of_a_record_that_no_member_wrote_is_an_error_and_of_a_report_counts_as_none()
{
    let (api, members) = (FakeApi::default(), ["m".to_owned()].into());
    let store = store(&api);
    let a = term("a", 1);
    assert_eq!(store.take(&take(&a, None)).await.unwrap(), Outcome::Applied);
    store.report(&a.component, "m", "says").await.unwrap();
    let long = "x".repeat(crate::store::TEXT_MAX + 1);
    let of = |path: &str, name: &str| {
        let mut lease = api.get(path);
        lease["metadata"]["annotations"][name] = json!(long);
        api.put(path, lease);
    };
    of(&format!("{PATH}-m"), "componentlease.io/report");
    assert_eq!(store.read_roster(&a.component, &members).await.unwrap().reports.len(), 0);
    of(PATH, "componentlease.io/record");
    let error = store.read_roster(&a.component, &members).await.unwrap_err();
    assert!(
        matches!(error, StoreError::Misconfigured { .. }) && error.to_string().contains("16384 bytes"),
        "{error}"
    );
}
