use super::*;
use crate::routing::fixtures::*;
use crate::routing::observed::FormerService;

/// Lease `web` names Service `web`, led by pod a.
fn named(managed: bool, sight: ServiceSight) -> Observed {
    let mut o = observed(held_by("a", 7), vec![pod("a")]);
    o.desired.service = Some(DesiredService { name: "web".into(), managed, ..DesiredService::default() });
    o.service = sight;
    o
}

fn plan_for(o: &Observed) -> Vec<ServiceChange> {
    plan(o).services
}

/// As this program makes it.
fn made() -> SeenService {
    SeenService {
        ours: true,
        uid: "service-uid".into(),
        selector: strings(&[(KEY, "leader"), ("app", "web")]),
        labels: strings(&[MADE_BY]),
        resource_version: "5".into(),
        ..SeenService::default()
    }
}

fn exists(seen: SeenService) -> ServiceSight {
    ServiceSight::Exists(seen)
}

fn delete(name: &str) -> ServiceChange {
    ServiceChange::Delete { name: name.into(), uid: format!("{name}-uid"), resource_version: "9".into() }
}

fn former(name: &str) -> FormerService {
    FormerService { name: name.into(), uid: format!("{name}-uid"), resource_version: "9".into() }
}

fn update(changes: Vec<ServiceChange>) -> ServiceWrite {
    match <[_; 1]>::try_from(changes) {
        Ok([ServiceChange::Update(write)]) => write,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_managed_service_is_made_corrected_and_never_adopted() {
    match &plan_for(&named(true, ServiceSight::Missing))[..] {
        [ServiceChange::Create(write)] => {
            assert_eq!(write.selector, made().selector);
            assert_eq!((&write.labels, write.annotations.len()), (&strings(&[MADE_BY]), 0));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(plan_for(&named(true, exists(made()))), []);
    let bent = [
        SeenService { selector: strings(&[(KEY, "old")]), ..made() },
        SeenService { outward: true, ..made() },
        SeenService { external_name: true, outward: true, ..made() },
        SeenService { labels: strings(&[]), ..made() },
        SeenService { ports: vec![http()], ..made() },
    ];
    for bent in bent {
        let write = update(plan_for(&named(true, exists(bent.clone()))));
        assert_eq!((write.resource_version.as_str(), write.selector), ("5", made().selector), "{bent:?}");
        assert_eq!(write.labels, made().labels);
        assert_eq!(
            plan_for(&named(true, exists(SeenService { ours: false, ..bent }))),
            [],
            "somebody else's"
        );
    }
    assert_eq!(plan_for(&named(true, ServiceSight::Unknown("forbidden".into()))), []);
}

fn http() -> crate::routing::observed::ServicePort {
    crate::routing::observed::ServicePort {
        name: None,
        port: 80,
        target: None,
        protocol: "TCP".into(),
        app_protocol: None,
    }
}

#[test]
fn while_the_resource_is_deleted_no_service_is_made_taken_back_or_deleted() {
    let orphan = SeenService { ours: false, abandoned: true, ..made() };
    for sight in [ServiceSight::Missing, exists(orphan), exists(SeenService { outward: true, ..made() })] {
        let o = Observed { leaving: true, former_services: vec![former("old")], ..named(true, sight) };
        assert_eq!(plan_for(&o), []);
    }
}

#[test]
fn one_with_our_mark_that_nobody_owns_is_taken_back() {
    let restored = SeenService { ours: false, abandoned: true, ..made() };
    assert_eq!(update(plan_for(&named(true, exists(restored.clone())))).selector, made().selector);
    assert_eq!(plan_for(&named(false, exists(restored))), [], "it is only checked");
}

#[test]
fn labels_and_annotations_follow_the_resource_and_what_others_add_stays() {
    let mut o = named(true, exists(made()));
    let wanted = o.desired.service.as_mut().unwrap();
    wanted.labels = strings(&[("team", "x")]);
    wanted.annotations = strings(&[("example.org/a", "b")]);
    let write = update(plan_for(&o));
    assert_eq!(write.labels, strings(&[MADE_BY, ("team", "x")]));
    assert_eq!(
        write.annotations,
        strings(&[("example.org/a", "b"), (TEMPLATE, "label team,annotation example.org/a")])
    );
    // Somebody adds theirs.
    let mut seen = made();
    (seen.labels, seen.annotations) = (write.labels, write.annotations);
    seen.labels.insert("theirs".into(), "1".into());
    seen.annotations.insert("theirs".into(), "2".into());
    o.service = exists(seen.clone());
    assert_eq!(plan_for(&o), [], "all is as it should be");
    // The resource asks for others.
    let wanted = o.desired.service.as_mut().unwrap();
    wanted.labels = strings(&[("tier", "y")]);
    wanted.annotations = strings(&[]);
    let write = update(plan_for(&o));
    assert_eq!(write.labels, strings(&[MADE_BY, ("tier", "y"), ("theirs", "1")]));
    assert_eq!(write.annotations, strings(&[("theirs", "2"), (TEMPLATE, "label tier")]));
}

#[test]
fn an_address_is_given_once_so_a_service_that_is_to_have_one_or_none_is_made_anew() {
    let mut o = named(true, exists(made()));
    o.desired.service.as_mut().unwrap().headless = true;
    let gone =
        ServiceChange::Delete { name: "web".into(), uid: "service-uid".into(), resource_version: "5".into() };
    assert_eq!(plan_for(&o), std::slice::from_ref(&gone));
    o.service = exists(SeenService { headless: true, ..made() });
    assert_eq!(plan_for(&o), []);
    o.desired.service.as_mut().unwrap().headless = false;
    assert_eq!(plan_for(&o), [gone]);
    o.service = exists(SeenService { ours: false, headless: true, ..made() });
    assert_eq!(plan_for(&o), [], "somebody else's");
}

#[test]
fn one_that_is_only_checked_from_now_on_is_released_and_stays() {
    let mut seen = made();
    seen.labels.insert("team".into(), "x".into());
    seen.annotations = strings(&[(TEMPLATE, "label team"), ("theirs", "2")]);
    let released = ServiceChange::Release {
        name: "web".into(),
        labels: strings(&[("team", "x")]),
        annotations: strings(&[("theirs", "2")]),
        resource_version: "5".into(),
    };
    assert_eq!(plan_for(&named(false, exists(seen.clone()))), [released]);
    assert_eq!(plan_for(&named(false, exists(SeenService { ours: false, ..seen }))), []);
}

#[test]
fn one_that_is_not_named_any_more_goes_when_there_is_something_to_go_to() {
    let with = |o: Observed| Observed { former_services: vec![former("old"), former("older")], ..o };
    let gone = [delete("old"), delete("older")];
    assert_eq!(plan_for(&with(named(true, exists(made())))), gone);
    assert!(matches!(plan_for(&with(named(true, ServiceSight::Missing)))[..], [ServiceChange::Create(_)]));
    assert_eq!(plan_for(&with(named(true, exists(SeenService { ours: false, ..made() })))), []);
    assert_eq!(plan_for(&with(named(true, ServiceSight::Unknown("forbidden".into())))), []);
    assert_eq!(plan_for(&with(named(false, ServiceSight::Missing))), gone);
    let mut none = named(false, ServiceSight::NotAsked);
    none.desired.service = None;
    assert_eq!(plan_for(&with(none)), gone);
}
