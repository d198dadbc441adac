//! Which pod is the holder? A database user must not be able to steer a Service, so a holder is
//! only believed to be a pod that the resource already counts among its candidates.

use super::super::holder_pattern::HolderPattern;
use super::super::pod::{Pod, Selector};
use crate::election::row::LeaseRow;
use crate::membership::holder_id::{OwnFormat, POD_UID_PART};
use crate::membership::instance::Whereabouts;

/// Why a holder is no pod that may be routed to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("holder {holder} names no pod of this namespace")]
    NoSuchPod { holder: String },
    #[error(
        "holder {holder} says that it runs in namespace {namespace}: find out why a program of that namespace competes for this component"
    )]
    OtherNamespace { holder: String, namespace: String },
    #[error(
        "holder {holder} could be any of the pods {pods}; rename the pods so that no pod's name begins with another's"
    )]
    Ambiguous { holder: String, pods: String },
    #[error("holder {holder} names pod {pod}, which spec.selector does not match")]
    OutsideSelector { holder: String, pod: String },
    #[error("holder {holder} is not as spec.holderPattern says")]
    Unlike { holder: String },
    #[error("holder {holder} names pod {pod}, which has finished")]
    Finished { holder: String, pod: String },
    #[error(
        "holder {holder} was made by another pod of the name {pod}: that one's UID begins with {expected}, this one's is {uid}"
    )]
    OtherUid { holder: String, pod: String, expected: String, uid: String },
    #[error("holder {holder} names pod {pod}, which started after the lease was taken, or has not started")]
    StartedLater { holder: String, pod: String },
}

/// What may follow a pod's name in a foreign holder id.
const SEPARATORS: [char; 7] = ['_', ':', '/', '@', '#', '.', '-'];

/// A pod's clock and the database's may differ by this much (ms) when a foreign holder is judged.
pub(in crate::routing) const CLOCK_TOLERANCE: i64 = 5_000;

/// The pod that the row's holder is, among the pods of the resource's namespace: the one that it says it
/// runs in (`told`), else by its name. The pattern is for names that are not of our own format.
pub fn pod_of<'p>(
    row: &LeaseRow,
    pods: &'p [Pod],
    selector: &Selector,
    namespace: &str,
    told: Option<&Whereabouts>,
    pattern: Option<&HolderPattern>,
) -> Result<&'p Pod, Rejection> {
    let holder = || row.holder.clone();
    // Whatever else it says: a pod of this namespace may have the same name.
    if let Some(other) = told.and_then(|told| told.elsewhere(namespace)) {
        return Err(Rejection::OtherNamespace { holder: holder(), namespace: other.to_owned() });
    }
    // A program that was not told its pod's UID writes a process id, which is never that long: it
    // says no more than a foreign one.
    let own = OwnFormat::parse(&row.holder).filter(|own| own.origin.len() == POD_UID_PART);
    let pod = match (told.and_then(whole), own.and_then(|own| pods.iter().find(|pod| pod.name == own.name))) {
        (Some(told), _) => by_instance(row, pods, &told)?,
        (None, Some(pod)) => pod,
        (None, None) => foreign(row, pods, pattern)?,
    };
    if let Some(own) = own.filter(|own| !pod.uid.starts_with(own.origin)) {
        return Err(Rejection::OtherUid {
            holder: holder(),
            pod: pod.name.clone(),
            expected: own.origin.to_owned(),
            uid: pod.uid.clone(),
        });
    }
    if !selector.matches(&pod.labels) {
        return Err(Rejection::OutsideSelector { holder: holder(), pod: pod.name.clone() });
    }
    if pod.finished {
        return Err(Rejection::Finished { holder: holder(), pod: pod.name.clone() });
    }
    Ok(pod)
}

/// Where a participant runs, if it says all of it.
struct Told<'w> {
    pod: &'w str,
    uid: &'w str,
}

fn whole(told: &Whereabouts) -> Option<Told<'_>> {
    told.namespace.as_ref()?;
    Some(Told { pod: told.pod.as_deref()?, uid: told.pod_uid.as_deref()? })
}

fn by_instance<'p>(row: &LeaseRow, pods: &'p [Pod], told: &Told<'_>) -> Result<&'p Pod, Rejection> {
    let holder = || row.holder.clone();
    let named = pods.iter().find(|pod| pod.name == told.pod);
    let pod = named.ok_or_else(|| Rejection::NoSuchPod { holder: holder() })?;
    if pod.uid != told.uid {
        let (expected, uid) = (told.uid.to_owned(), pod.uid.clone());
        return Err(Rejection::OtherUid { holder: holder(), pod: pod.name.clone(), expected, uid });
    }
    Ok(pod)
}

/// Programs with their own SQL write the pod's name, its name and something behind a separator, or its
/// IP; or what the pattern says, and nothing else then.
fn foreign<'p>(
    row: &LeaseRow,
    pods: &'p [Pod],
    pattern: Option<&HolderPattern>,
) -> Result<&'p Pod, Rejection> {
    let holder = row.holder.as_str();
    let own = OwnFormat::parse(holder).map(|own| own.name);
    match pattern.map(|pattern| pattern.pod(holder)) {
        Some(Some(name)) => {
            let pod = pods.iter().find(|pod| pod.name == name);
            let pod = pod.ok_or_else(|| Rejection::NoSuchPod { holder: holder.to_owned() })?;
            return was_there(row, pod);
        }
        Some(None) if own.is_none() => return Err(Rejection::Unlike { holder: holder.to_owned() }),
        Some(None) | None => {}
    }
    // In our own format the name is known to its end: when its pod is gone, a pod whose name is
    // only the beginning of it is another one. (No pod's name holds an underscore.)
    let whole = own.filter(|name| !name.contains('_'));
    let named = |pod: &Pod| match whole {
        Some(name) => pod.name == name,
        None => holder
            .strip_prefix(pod.name.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(SEPARATORS)),
    };
    let longest = pods.iter().filter(|pod| named(pod)).map(|pod| pod.name.len()).max();
    let mut matches: Vec<&Pod> = match longest {
        Some(length) => pods.iter().filter(|pod| pod.name.len() == length && named(pod)).collect(),
        // The address of a finished pod is free for another.
        None => {
            let at = |pod: &Pod| !pod.finished && pod.ips.iter().any(|ip| by_ip(holder, ip));
            pods.iter().filter(|pod| at(pod)).collect()
        }
    };
    // "web-1" is both the pod "web-1" and something behind the pod "web": only the whole name is
    // beyond doubt when there is a shorter one.
    if let Some(length) = longest
        && holder.len() != length
    {
        let others = pods.iter().filter(|pod| pod.name.len() < length && named(pod));
        let dash = holder[length..].starts_with('-');
        if dash {
            matches.extend(others);
        }
    }
    match matches.as_slice() {
        [] => Err(Rejection::NoSuchPod { holder: holder.to_owned() }),
        [pod] => was_there(row, pod),
        several => Err(Rejection::Ambiguous {
            holder: holder.to_owned(),
            pods: several.iter().map(|pod| pod.name.as_str()).collect::<Vec<_>>().join(", "),
        }),
    }
}

/// A pod of the same name that came after the lease is not the one that took it; nor is one that has
/// not started yet.
fn was_there<'p>(row: &LeaseRow, pod: &'p Pod) -> Result<&'p Pod, Rejection> {
    let latest = row.lease_time.saturating_add(CLOCK_TOLERANCE);
    if pod.started.is_none_or(|started| started > latest) {
        return Err(Rejection::StartedLater { holder: row.holder.clone(), pod: pod.name.clone() });
    }
    Ok(pod)
}

fn by_ip(holder: &str, ip: &str) -> bool {
    holder.strip_prefix(ip).is_some_and(|rest| {
        rest.is_empty() || (!ip.contains(':') && rest.starts_with([':', '_', '/', '@', '#']))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::pod::Requirement;

    fn pod(name: &str) -> Pod {
        Pod {
            name: name.into(),
            uid: "8b7e12c0-1111-4222-8333-444455556666".into(),
            labels: [("app".to_owned(), "d".to_owned())].into(),
            ips: vec![format!("10.0.0.{}", name.len())],
            started: Some(1_000),
            ..Pod::default()
        }
    }

    fn selector() -> Selector {
        Selector::new(vec![Requirement::In("app".into(), vec!["d".into()])]).unwrap()
    }

    fn judge(holder: &str, pods: &[Pod]) -> Result<String, Rejection> {
        let row =
            LeaseRow { holder: holder.into(), lease_time: 2_000, renew_time: 2_000, version: 1, ttl: 30 };
        pod_of(&row, pods, &selector(), "shop", None, None).map(|pod| pod.name.clone())
    }

    #[test]
    fn with_a_pattern_a_foreign_holder_is_the_pod_that_it_names_and_nothing_else() {
        let pattern = HolderPattern::new("worker@(?P<pod>[-a-z0-9]+)/[0-9]+").unwrap();
        let pods = [pod("d-1"), pod("d-2")];
        let judge = |holder: &str, pods: &[Pod]| {
            let row =
                LeaseRow { holder: holder.into(), lease_time: 2_000, renew_time: 2_000, version: 1, ttl: 30 };
            pod_of(&row, pods, &selector(), "shop", None, Some(&pattern)).map(|pod| pod.name.clone())
        };
        assert_eq!(judge("worker@d-2/7", &pods).unwrap(), "d-2");
        assert!(matches!(judge("worker@d-3/7", &pods), Err(Rejection::NoSuchPod { .. })));
        for unlike in ["d-1", "10.0.0.3", "worker@d-1", "d-1:8080"] {
            assert!(matches!(judge(unlike, &pods), Err(Rejection::Unlike { .. })), "{unlike}");
        }
        // Our own participants beside it are known by their own format.
        for own in ["d-1_8b7e12c0_1f0c9a3d", "d-1_4711_1f0c9a3d"] {
            assert_eq!(judge(own, &pods).unwrap(), "d-1");
        }
        // What holds for every foreign holder holds here too.
        let late = Pod { started: Some(60_000), ..pod("d-1") };
        assert!(matches!(judge("worker@d-1/7", &[late]), Err(Rejection::StartedLater { .. })));
        let outside = Pod { labels: [].into(), ..pod("d-1") };
        assert!(matches!(judge("worker@d-1/7", &[outside]), Err(Rejection::OutsideSelector { .. })));
    }

    #[test]
    fn our_own_format_is_the_pod_with_that_name_and_uid() {
        let pods = [pod("d-1"), pod("d-2")];
        assert_eq!(judge("d-1_8b7e12c0_1f0c9a3d", &pods).unwrap(), "d-1");
    }

    #[test]
    fn a_replaced_pod_of_the_same_name_is_not_the_holder() {
        assert!(matches!(judge("d-1_deadbeef_1f0c9a3d", &[pod("d-1")]), Err(Rejection::OtherUid { .. })));
    }

    #[test]
    fn a_process_id_is_not_taken_for_the_beginning_of_a_uid() {
        let late = Pod { started: Some(60_000), ..pod("d-1") };
        assert_eq!(judge("d-1_8_1f0c9a3d", &[pod("d-1")]).unwrap(), "d-1");
        assert!(matches!(judge("d-1_8_1f0c9a3d", &[late]), Err(Rejection::StartedLater { .. })));
    }

    #[test]
    fn the_address_of_a_finished_pod_belongs_to_the_one_that_has_it_now() {
        let pods = [Pod { finished: true, ..pod("d-1") }, pod("d-2")];
        assert_eq!(judge("10.0.0.3:8080", &pods).unwrap(), "d-2");
    }

    #[test]
    fn once_its_pod_is_gone_a_holder_of_our_own_format_is_no_pod_with_a_shorter_name() {
        for holder in ["web-1_8b7e12c0_1f0c9a3d", "web-1_4711_1f0c9a3d"] {
            let judged = judge(holder, &[pod("web"), pod("web-12")]);
            assert!(matches!(judged, Err(Rejection::NoSuchPod { .. })), "{holder}: {judged:?}");
        }
        assert_eq!(judge("web-1_4711_1f0c9a3d", &[pod("web"), pod("web-1")]).unwrap(), "web-1");
    }

    #[test]
    fn a_uid_counts_however_the_pod_was_found() {
        assert_eq!(judge("10.0.0.3_8b7e12c0_1f0c9a3d", &[pod("d-1")]).unwrap(), "d-1");
        assert!(matches!(
            judge("10.0.0.3_deadbeef_1f0c9a3d", &[pod("d-1")]),
            Err(Rejection::OtherUid { .. })
        ));
    }

    #[test]
    fn a_foreign_holder_is_no_pod_that_has_not_started_whatever_time_the_row_claims() {
        let pending = Pod { started: None, ..pod("d-1") };
        assert!(matches!(judge("d-1", &[pending]), Err(Rejection::StartedLater { .. })));
        let row = LeaseRow { holder: "d-1".into(), lease_time: i64::MAX, renew_time: 1, version: 1, ttl: 30 };
        assert!(pod_of(&row, &[pod("d-1")], &selector(), "shop", None, None).is_ok());
    }

    #[test]
    fn a_process_on_a_developers_machine_is_no_pod() {
        assert!(matches!(judge("laptop_4711_1f0c9a3d", &[pod("d-1")]), Err(Rejection::NoSuchPod { .. })));
    }

    #[test]
    fn foreign_holders_are_the_name_or_the_name_and_a_separator() {
        let pods = [pod("d-1"), pod("d-23")];
        for holder in ["d-1", "d-1_x", "d-1:8080", "d-1/7", "d-1@host", "d-1#2", "d-1.svc"] {
            assert_eq!(judge(holder, &pods).unwrap(), "d-1", "{holder}");
        }
        assert!(matches!(judge("d-12", &pods), Err(Rejection::NoSuchPod { .. })));
    }

    #[test]
    fn the_longest_name_wins_and_a_doubtful_one_is_rejected() {
        let pods = [pod("web"), pod("web-1")];
        assert_eq!(judge("web-1", &pods).unwrap(), "web-1");
        assert_eq!(judge("web-1:80", &pods).unwrap(), "web-1");
        assert!(matches!(judge("web-1-7", &pods), Err(Rejection::Ambiguous { .. })));
    }

    fn told(namespace: &str, name: &str, uid: &str) -> Whereabouts {
        let given = |text: &str| Some(text.to_owned());
        Whereabouts {
            namespace: given(namespace),
            pod: given(name),
            pod_uid: given(uid),
            ..Whereabouts::default()
        }
    }

    fn judge_told(holder: &str, pods: &[Pod], told: &Whereabouts) -> Result<String, Rejection> {
        let row =
            LeaseRow { holder: holder.into(), lease_time: 2_000, renew_time: 2_000, version: 1, ttl: 30 };
        pod_of(&row, pods, &selector(), "shop", Some(told), None).map(|pod| pod.name.clone())
    }

    #[test]
    fn a_participant_that_says_where_it_runs_may_be_called_anything() {
        let (pods, uid) = ([pod("d-1"), pod("d-2")], pod("d-2").uid);
        let here = told("shop", "d-2", &uid);
        assert_eq!(judge_told("berlin_8b7e12c0_1f0c9a3d", &pods, &here).unwrap(), "d-2");
        // Its own word counts before what its name looks like.
        assert_eq!(judge_told("d-1:8080", &pods, &here).unwrap(), "d-2");
        let late = Pod { started: None, ..pod("d-2") };
        assert_eq!(judge_told("berlin_4711_1f0c9a3d", &[late], &here).unwrap(), "d-2");
    }

    #[test]
    fn a_participant_in_another_namespace_or_pod_of_that_name_is_no_pod_of_this_one() {
        let (pods, uid) = ([pod("d-1")], pod("d-1").uid);
        let rejected = |at: &Whereabouts| judge_told("d-1_8b7e12c0_1f0c9a3d", &pods, at).unwrap_err();
        assert!(matches!(rejected(&told("elsewhere", "d-1", &uid)), Rejection::OtherNamespace { .. }));
        // However little else it says, and whatever it is called.
        let least = Whereabouts { namespace: Some("elsewhere".into()), ..Whereabouts::default() };
        assert!(matches!(rejected(&least), Rejection::OtherNamespace { .. }));
        assert!(matches!(judge_told("d-1", &pods, &least), Err(Rejection::OtherNamespace { .. })));
        assert!(matches!(rejected(&told("shop", "d-9", &uid)), Rejection::NoSuchPod { .. }));
        assert!(matches!(rejected(&told("shop", "d-1", "another")), Rejection::OtherUid { .. }));
        // Two statements of one participant must agree.
        let liar = judge_told("d-1_deadbeef_1f0c9a3d", &pods, &told("shop", "d-1", &uid));
        assert!(matches!(liar, Err(Rejection::OtherUid { .. })));
    }

    #[test]
    fn a_participant_that_says_only_half_of_where_it_runs_is_found_by_its_name() {
        let half = Whereabouts { pod_uid: None, ..told("shop", "d-2", "") };
        assert_eq!(judge_told("d-1_8b7e12c0_1f0c9a3d", &[pod("d-1"), pod("d-2")], &half).unwrap(), "d-1");
    }

    #[test]
    fn a_pod_that_it_says_it_runs_in_must_be_a_candidate_like_any_other() {
        let outside = Pod { labels: [].into(), ..pod("d-1") };
        let here = told("shop", "d-1", &outside.uid);
        assert!(matches!(
            judge_told("berlin_8b7e12c0_1f0c9a3d", &[outside], &here),
            Err(Rejection::OutsideSelector { .. })
        ));
    }

    #[test]
    fn a_foreign_holder_may_be_a_pod_ip() {
        let pods = [pod("d-1"), pod("d-23")];
        assert_eq!(judge("10.0.0.4:8080", &pods).unwrap(), "d-23");
        assert!(judge("10.0.0.44", &pods).is_err());
    }

    #[test]
    fn a_foreign_holders_pod_must_have_been_there_when_the_lease_was_taken() {
        let late = Pod { started: Some(60_000), ..pod("d-1") };
        assert!(matches!(judge("d-1", &[late]), Err(Rejection::StartedLater { .. })));
    }

    #[test]
    fn a_pod_outside_the_selector_or_finished_is_rejected() {
        let outside = Pod { labels: [].into(), ..pod("d-1") };
        assert!(matches!(judge("d-1_8b7e12c0_1f0c9a3d", &[outside]), Err(Rejection::OutsideSelector { .. })));
        let finished = Pod { finished: true, ..pod("d-1") };
        assert!(matches!(judge("d-1", &[finished]), Err(Rejection::Finished { .. })));
    }
}
