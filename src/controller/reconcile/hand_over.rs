//! Asks a leader to make way whose pod stays not ready, or whose node is cordoned, where the resource wants that and
//! somebody else is ready.

use std::time::Duration;

use kube::ResourceExt as _;
use tracing::{debug, warn};

use crate::api::ComponentLease;
use crate::controller::announcer::name_of;
use crate::controller::database::Database;
use crate::controller::endings::HandOver;
use crate::controller::handles::Handles;
use crate::election::{HolderId, TermKey, Verb};
use crate::operator::{self, Situation, Wish, plan as planned};
use crate::routing::conditions::EventReason;
use crate::routing::decide::{Event, Plan};
use crate::routing::making_way::{Cause, MakesWay, makes_way};
use crate::routing::observed::{Observed, RowSight, StoreSight};
use crate::routing::pause::pauser;
use crate::store::Said;

const TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is tried again, as long as nobody else is ready, or something else stands in the way.
const AGAIN: Duration = Duration::from_secs(5);
/// How ids of such requests begin.
const UNREADY: &str = "unready";
const CORDONED: &str = "cordoned";
/// Characters of a reason that fit beside the rest.
const WHY_MAX: usize = 512;

/// When to look at it again, if ever.
pub(super) async fn hand_over(
    lease: &ComponentLease,
    observed: &Observed,
    plan: &Plan,
    handles: &Handles,
) -> Option<Duration> {
    let Handles { database, cluster, announcer } = handles;
    let uid = lease.uid().unwrap_or_default();
    let Some(found) = makes_way(observed, plan) else {
        cluster.unready.forget(&uid);
        // All is well again, or nobody wants that any more. If it happens once more, it is asked once more.
        let asked = cluster.hand_overs.of(&uid).or_else(|| left_by_another(&uid, observed, database))?;
        // Once its term is over it is void, and stays as what was asked last.
        let lasts =
            matches!(&observed.row, RowSight::Seen { row: Some(row), .. } if row.is_term(&asked.term));
        let left = asked.until.map(|until| until.saturating_sub(database.clock.boot()));
        let again = match left {
            // A leader that goes away makes way in any case, and sooner because it was asked.
            Some(left) if lasts && goes_away(plan) && !left.is_zero() => Some(left),
            Some(_) if lasts => take_back(&uid, asked, handles).await,
            _ => None,
        };
        if again.is_none() {
            cluster.hand_overs.forget(&uid);
        }
        return again;
    };
    // Of a database that is away nothing can be asked. It queues everything when it answers.
    if !plan.intend || observed.store != StoreSight::Answers {
        return None;
    }
    // A lease that is released in a quarantine stays nobody's until that is over.
    if let Some(quarantine) = &observed.quarantine {
        return Some(quarantine.until.saturating_sub(database.clock.boot()));
    }
    // Nobody would take it from the one that made way. When the pause ends, the resource is queued.
    if observed.pause.pause().is_some() {
        return None;
    }
    let MakesWay { row, pod, cause, after, instead } = found;
    let component = &observed.desired.component;
    let holder = HolderId::new(row.holder.clone()).ok()?;
    let term = TermKey { component: component.clone(), holder, version: row.version };
    if let Some(asked) = cluster.hand_overs.of(&uid).filter(|asked| asked.term == term) {
        let left = asked.until?.saturating_sub(database.clock.boot());
        return if left.is_zero() { take_back(&uid, asked, handles).await } else { Some(left) };
    }
    match cause {
        Cause::Cordoned(_) => cluster.unready.forget(&uid),
        Cause::NotReady(_) => {
            let since = cluster.unready.first_seen(&uid, &term, database.clock.boot());
            let left = (since + after).saturating_sub(database.clock.boot());
            if !left.is_zero() {
                return Some(left);
            }
        }
    }
    let object = name_of(lease);
    let (word, reason) = match cause {
        Cause::NotReady(why) => {
            (UNREADY, format!("pod {pod} has not been ready for {} s: {why}", after.as_secs()))
        }
        Cause::Cordoned(node) => (CORDONED, format!("node {node} of pod {pod} is cordoned")),
    };
    let Some(target) = instead else {
        debug!(object, reason, "the leader should make way, and nobody else is fit to lead");
        return Some(AGAIN);
    };
    let asked = async {
        let seen =
            operator::look(database.store().as_ref(), component).await.map_err(|why| why.to_string())?;
        let me = pauser(&observed.desired.namespace, &observed.desired.name);
        let wish = Wish {
            id: id_of(word, &uid, row.version),
            verb: Verb::Switchover,
            to: Some(target.as_str().to_owned()),
            expect_holder: Some(row.holder.clone()),
            expect_version: Some(row.version),
            away: None,
            replace: None,
            said: Said::new(me, reason.chars().take(WHY_MAX).collect::<String>())
                .map_err(|why| why.to_string())?,
        };
        let plan = planned(&Situation::of(&seen, component), &wish).map_err(|why| why.to_string())?;
        let posted = operator::post(database.store().as_ref(), component, &wish, &plan).await;
        posted.map(|()| (wish.id, plan)).map_err(|why| why.to_string())
    };
    match tokio::time::timeout(TIMEOUT, asked).await {
        Ok(Ok((id, asked))) => {
            let until = database.clock.boot() + asked.within;
            cluster.hand_overs.keep(&uid, HandOver { term, id, until: Some(until) });
            if asked.already {
                return Some(asked.within);
            }
            let note = format!("{reason}; {} was asked to make way for {target}", row.holder);
            // A drain is nothing to worry about.
            let warning = matches!(cause, Cause::NotReady(_));
            let event = Event { reason: EventReason::HandOver, warning, note };
            announcer.record(lease, &[event]).await;
            return Some(asked.within);
        }
        Ok(Err(why)) => debug!(object, pod, why, "the leader could not be asked to make way"),
        Err(_) => warn!(
            object,
            pod, "the leader could not be asked to make way: the database did not answer in time"
        ),
    }
    Some(AGAIN)
}

fn goes_away(plan: &Plan) -> bool {
    plan.leader.as_ref().and_then(|leader| leader.as_ref().ok()).is_some_and(|pod| pod.terminating)
}

/// What another process of the controller asked of this term before this one acted, and nobody has taken back.
fn left_by_another(uid: &str, observed: &Observed, database: &Database) -> Option<HandOver> {
    let RowSight::Seen { row: Some(row), .. } = &observed.row else { return None };
    let component = &observed.desired.component;
    let id = database.known().pending(component.as_str())?;
    [UNREADY, CORDONED].iter().any(|word| id == id_of(word, uid, row.version)).then_some(())?;
    let holder = HolderId::new(row.holder.clone()).ok()?;
    let term = TermKey { component: component.clone(), holder, version: row.version };
    Some(HandOver { term, id, until: Some(database.clock.boot()) })
}

/// One for each term: another controller asks nothing more either, while it stands.
fn id_of(word: &str, uid: &str, version: i64) -> String {
    format!("{word}-{uid}-{version}").chars().take(64).collect()
}

/// Nothing that was asked for an unready pod or a cordoned node is obeyed when all is well again, or much later.
async fn take_back(lease: &str, asked: HandOver, handles: &Handles) -> Option<Duration> {
    let withdrawn = handles.database.store().withdraw(&asked.term.component, &asked.id);
    match tokio::time::timeout(TIMEOUT, withdrawn).await {
        Ok(Ok(_)) => {
            handles.cluster.hand_overs.keep(lease, HandOver { until: None, ..asked });
            None
        }
        // The request stands, and names one term alone.
        Ok(Err(_)) | Err(_) => Some(AGAIN),
    }
}
