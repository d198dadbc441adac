//! `db status`: what stands in the lease's store. It asks no member, so it also tells of a cluster that does not answer.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::args::StatusArgs;
use super::place::{Place, failure};
use crate::clock::SystemClock;
use crate::database::Member;
use crate::member::{Said, Standing, What, Wish};
use crate::primary::Record;
use crate::primary::verbs::Log;
use crate::process::telemetry::one_line;
use crate::process::{ExitCode, Failure, output};
use crate::store::Asked;

/// How long a store that does not answer is waited for.
const LIMIT: Duration = Duration::from_secs(15);

pub(super) async fn status(args: StatusArgs) -> Result<u8, Failure> {
    let place = Place::of(&args.lease, Arc::new(SystemClock)).await?;
    let members: BTreeSet<Member> = args.members.into_iter().collect();
    let store = place.roster()?;
    let standing = timeout(LIMIT, Standing::read(&*store, &place.component, &members)).await;
    let silent = || {
        Failure::new(ExitCode::Unavailable, format!("{} did not answer within {LIMIT:?}", store.describe()))
    };
    let standing = standing.map_err(|_| silent())?;
    let standing = standing.map_err(|error| failure(&error))?;
    let asks = place.asks()?;
    let asked = timeout(LIMIT, asks.asked(&place.component)).await;
    let asked = asked.map_err(|_| silent())?.map_err(|error| failure(&error))?;
    if standing.version == 0 {
        return Err(Failure::new(
            ExitCode::NoSuchLease,
            format!("there is no lease {} in {}", place.component, store.describe()),
        ));
    }
    output::print(&told(place.component.as_str(), &standing, &asked))
}

fn told(cluster: &str, standing: &Standing, asked: &Asked) -> String {
    let holder = standing.holder.as_deref().unwrap_or("nobody");
    let mut text =
        format!("Cluster    {cluster}\nLease      version {}, held by {holder}\n", standing.version);
    let mut line = |name: &str, value: String| {
        // Writing to a string never fails.
        let _ = writeln!(text, "{name:<10} {value}");
    };
    match &standing.record {
        None => line("Record", "none yet: the first primary needs all declared members".to_owned()),
        Some((record, version)) => {
            line("Record", format!("version {version}, {}", quorum(record)));
        }
    }
    if let Some(said) = &asked.paused {
        if let (None, Some((record, _))) = (&standing.holder, &standing.record)
            && !has_stopped(standing, &record.primary)
        {
            let may = "may still acknowledge writes, if the store was away: db fence stops it";
            line("Primary", format!("{} {may}", record.primary));
        }
        line("Paused", format!("by {}; nobody is promoted until db resume", who(said.by(), said.reason())));
    }
    if let Some(posted) = asked.request.as_ref().filter(|posted| posted.request.version == standing.version) {
        let said = who(posted.said.by(), posted.said.reason());
        line("Asked", format!("{} (id {}), by {said}", posted.request.verb.as_str(), posted.request.id));
    }
    for (member, wish) in &standing.wishes {
        if let Some(asked) = wished(standing, member, wish) {
            line("Asked", asked);
        }
    }
    line("Failover", failover(standing));
    text.push_str(&table(standing));
    text
}

/// Whether this member is fenced, and has said that its server has stopped.
fn has_stopped(standing: &Standing, member: &Member) -> bool {
    let wish = standing.wishes.get(member).filter(|wish| wish.what == What::Fence);
    let answer = standing.said.get(member).and_then(|said| said.wish_answer.as_ref());
    wish.is_some_and(|wish| !wish.is_open(answer))
}

/// What is asked of a member and stands. A fence stands until `resume`.
fn wished(standing: &Standing, member: &Member, wish: &Wish) -> Option<String> {
    let by = who(&wish.by, &wish.reason);
    let answer = standing.said.get(member).and_then(|said| said.wish_answer.as_ref());
    let open = wish.is_open(answer);
    match &wish.what {
        What::Fence => {
            let how = if open { "is asked to stop its server" } else { "keeps its server stopped" };
            Some(format!("{member} {how} until db resume, by {by}"))
        }
        What::Reinit if open => Some(format!("{member} is to be copied anew, by {by}")),
        What::Reinit => None,
    }
}

/// Who, and why if they said so.
fn who(by: &str, reason: &str) -> String {
    let text = if reason.is_empty() { by.to_owned() } else { format!("{by}: {reason}") };
    one_line(&text)
}

fn quorum(record: &Record<Member>) -> String {
    let voters = listed(record.quorum.voters());
    format!(
        "primary {}; a commit is acknowledged by any {} of {voters}",
        record.primary,
        record.quorum.acks()
    )
}

/// What would become of it if the primary ended now. Whether the others are alive is not known here.
fn failover(standing: &Standing) -> String {
    let Some(record) = standing.primary() else {
        return "not ready: the present term has no primary that acknowledges writes".to_owned();
    };
    let (voters, acks) = (record.quorum.voters(), record.quorum.acks());
    let needed = (voters.len() + 1).saturating_sub(acks);
    if voters.is_empty() || needed == 0 {
        return "not ready: no other member has what is acknowledged".to_owned();
    }
    format!(
        "ready if {needed} of {} are alive, which is not known here: the one with the most data would be promoted, and nothing acknowledged would be lost",
        listed(voters)
    )
}

fn listed(members: &BTreeSet<Member>) -> String {
    let names: Vec<&str> = members.iter().map(String::as_str).collect();
    names.join(", ")
}

fn table(standing: &Standing) -> String {
    let recorded = standing.record.iter().flat_map(|(record, _)| record.members.iter());
    let members: BTreeSet<&Member> = recorded.chain(standing.said.keys()).collect();
    let mut rows =
        vec![["MEMBER", "ROLE", "LAG", "SEALED", "LAST TERM", "END", "ADDRESS"].map(str::to_owned)];
    let log = standing.now(false).log;
    for member in members {
        let none = Said::default();
        let said = standing.said.get(member).unwrap_or(&none);
        let sealed = said.sealed.as_ref();
        let shown = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        rows.push([
            member.clone(),
            role(standing, member, said).to_owned(),
            shown(lag(log.as_ref(), member)),
            shown(sealed.map(|sealed| sealed.version.to_string())),
            shown(sealed.map(|sealed| sealed.position.term.to_string())),
            shown(sealed.map(|sealed| {
                format!("{:X}/{:X}", sealed.position.end >> 32, sealed.position.end & 0xffff_ffff)
            })),
            shown(said.leads.as_ref().map(|leads| format!("{}:{}", leads.host, leads.port))),
        ]);
    }
    let widths: Vec<usize> = (0..rows[0].len())
        .map(|at| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0))
        .collect();
    let lines = rows.iter().map(|row| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("   ").trim_end().to_owned() + "\n"
    });
    lines.collect()
}

/// Bytes of the primary's log that a member that receives has not on disk, as the primary said last.
fn lag(log: Option<&Log<Member>>, member: &Member) -> Option<String> {
    let log = log?;
    log.has.get(member).map(|has| log.end.saturating_sub(*has).to_string())
}

fn role(standing: &Standing, member: &Member, said: &Said) -> &'static str {
    let of_this_term = said.leads.as_ref().is_some_and(|leads| leads.version == standing.version);
    match standing.primary() {
        _ if standing.holder.is_none() => "standby",
        Some(record) if record.primary == *member => "primary",
        None if of_this_term => "promoted, closed",
        Some(record) if record.quorum.voters().contains(member) => "voter",
        _ => "standby",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::Leader;
    use crate::member::{Answer, AnswerState};
    use crate::primary::{Position, Quorum, Report};
    use crate::store::Said as Said_;

    fn standing() -> Standing {
        let members: BTreeSet<Member> = ["a", "b", "c"].map(str::to_owned).into();
        let voters = ["b", "c"].map(str::to_owned).into();
        let quorum = Quorum::any(1, voters).unwrap();
        let record = Record { primary: "a".to_owned(), quorum, asynchronous: false, system: 7, members };
        let leads = Leader { member: "a".to_owned(), version: 4, host: "db-a".to_owned(), port: 5432 };
        let log = Log { end: 1000, has: [("b".to_owned(), 990)].into() };
        let sealed = Report { version: 4, system: 7, position: Position { term: 3, end: 0x1_0000_00ff } };
        Standing {
            version: 4,
            holder: Some("a_1_2".to_owned()),
            record: Some((record, 4)),
            said: [
                ("a".to_owned(), Said { leads: Some(leads), log: Some((4, log)), ..Said::default() }),
                ("b".to_owned(), Said { sealed: Some(sealed), ..Said::default() }),
            ]
            .into(),
            ..Standing::default()
        }
    }

    #[test]
    fn a_healthy_cluster_is_told_with_who_would_be_promoted() {
        assert_eq!(
            told("orders", &standing(), &Asked::default()),
            "Cluster    orders\n\
             Lease      version 4, held by a_1_2\n\
             Record     version 4, primary a; a commit is acknowledged by any 1 of b, c\n\
             Failover   ready if 2 of b, c are alive, which is not known here: the one with the most data would be promoted, and nothing acknowledged would be lost\n\
             MEMBER   ROLE      LAG   SEALED   LAST TERM   END    ADDRESS\n\
             a        primary   -     -        -           -      db-a:5432\n\
             b        voter     10    4        3           1/FF   -\n\
             c        voter     -     -        -           -      -\n"
        );
    }

    #[test]
    fn a_record_of_an_earlier_term_makes_nobody_the_primary() {
        let mut seen = standing();
        seen.version = 5;
        let none = Asked::default();
        let text = told("orders", &seen, &none);
        assert!(text.contains("Failover   not ready"), "{text}");
        assert!(text.contains("a        standby"), "{text}");
        seen.said.get_mut("a").unwrap().leads.as_mut().unwrap().version = 5;
        assert!(told("orders", &seen, &none).contains("a        promoted, closed"), "it is not recorded yet");
        seen.holder = None;
        assert!(told("orders", &seen, &none).contains("held by nobody"));
    }

    #[test]
    fn what_operators_asked_is_told_with_who_and_why() {
        let mut seen = standing();
        let by = ("ada".to_owned(), "slow disk\n".to_owned());
        let wish = |what| Wish { id: "1".to_owned(), by: by.0.clone(), reason: by.1.clone(), what };
        seen.wishes = [("a".to_owned(), wish(What::Fence)), ("c".to_owned(), wish(What::Reinit))].into();
        let asked = Asked { paused: Some(Said_::new("bo", "backup").unwrap()), ..Asked::default() };
        let text = told("orders", &seen, &asked);
        for line in [
            "Paused     by bo: backup; nobody is promoted until db resume\n",
            "Asked      a is asked to stop its server until db resume, by ada: slow disk\\n\n",
            "Asked      c is to be copied anew, by ada: slow disk\\n\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        let done = |id: &str| Answer {
            id: id.to_owned(),
            state: AnswerState::Done,
            reason: None,
            message: String::new(),
        };
        for member in ["a", "c"] {
            seen.said.entry(member.to_owned()).or_default().wish_answer = Some(done("1"));
        }
        seen.holder = None;
        assert!(!told("orders", &seen, &asked).contains("may still acknowledge"), "its server has stopped");
        seen.wishes.remove("a");
        assert!(told("orders", &seen, &asked).contains("Primary    a may still acknowledge writes"));
        seen.wishes.insert("a".to_owned(), wish(What::Fence));
        let text = told("orders", &seen, &asked);
        assert!(text.contains("a keeps its server stopped") && !text.contains("copied anew"), "{text}");
    }
}
