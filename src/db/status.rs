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
use crate::member::{Said, Standing};
use crate::primary::Record;
use crate::process::{ExitCode, Failure, output};

/// How long a store that does not answer is waited for.
const LIMIT: Duration = Duration::from_secs(15);

pub(super) async fn status(args: StatusArgs) -> Result<u8, Failure> {
    let place = Place::of(&args.lease, Arc::new(SystemClock)).await?;
    let members: BTreeSet<Member> = args.members.into_iter().collect();
    let store = place.roster()?;
    let standing = timeout(LIMIT, Standing::read(&*store, &place.component, &members)).await;
    let standing = standing.map_err(|_| {
        Failure::new(ExitCode::Unavailable, format!("{} did not answer within {LIMIT:?}", store.describe()))
    })?;
    let standing = standing.map_err(|error| failure(&error))?;
    if standing.version == 0 {
        return Err(Failure::new(
            ExitCode::NoSuchLease,
            format!("there is no lease {} in {}", place.component, store.describe()),
        ));
    }
    output::print(&told(place.component.as_str(), &standing))
}

fn told(cluster: &str, standing: &Standing) -> String {
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
    if standing.is_restored() {
        let (there, known) = standing.stamps;
        line(
            "Restored",
            format!(
                "a member knows a record of version {}, number {}, which is newer than this one ({}, {}): members go by that",
                known.version, known.serial, there.version, there.serial
            ),
        );
    }
    line("Failover", failover(standing));
    for (member, list) in others(standing) {
        line(
            "Members",
            format!("{member} was started with {}, which are not those of the record", listed(list)),
        );
    }
    text.push_str(&table(standing));
    text
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

/// Those whose list is another one than the record's.
fn others(standing: &Standing) -> impl Iterator<Item = (&Member, &BTreeSet<Member>)> {
    let recorded = standing.record.as_ref().map(|(record, _)| &record.members);
    let said = standing.said.iter().map(|(member, said)| (member, &said.members));
    said.filter(move |(_, list)| !list.is_empty() && recorded.is_some_and(|recorded| recorded != *list))
}

fn listed(members: &BTreeSet<Member>) -> String {
    let names: Vec<&str> = members.iter().map(String::as_str).collect();
    names.join(", ")
}

fn table(standing: &Standing) -> String {
    let recorded = standing.record.iter().flat_map(|(record, _)| record.members.iter());
    let members: BTreeSet<&Member> = recorded.chain(standing.said.keys()).collect();
    let mut rows = vec![["MEMBER", "ROLE", "SEALED", "LAST TERM", "END", "ADDRESS"].map(str::to_owned)];
    for member in members {
        let none = Said::default();
        let said = standing.said.get(member).unwrap_or(&none);
        let sealed = said.sealed.as_ref();
        let shown = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        rows.push([
            member.clone(),
            role(standing, member, said).to_owned(),
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
    use crate::primary::{Position, Quorum, Report, Stamp};

    fn standing() -> Standing {
        let members: BTreeSet<Member> = ["a", "b", "c"].map(str::to_owned).into();
        let voters = ["b", "c"].map(str::to_owned).into();
        let quorum = Quorum::any(1, voters).unwrap();
        let record = Record { primary: "a".to_owned(), quorum, asynchronous: false, system: 7, members };
        let leads = Leader { member: "a".to_owned(), version: 4, host: "db-a".to_owned(), port: 5432 };
        let sealed = Report { version: 4, system: 7, position: Position { term: 3, end: 0x1_0000_00ff } };
        Standing {
            version: 4,
            holder: Some("a_1_2".to_owned()),
            record: Some((record, 4)),
            said: [
                ("a".to_owned(), Said { leads: Some(leads), ..Said::default() }),
                ("b".to_owned(), Said { sealed: Some(sealed), ..Said::default() }),
            ]
            .into(),
            stamps: Default::default(),
        }
    }

    #[test]
    fn a_record_that_is_older_than_what_members_know_and_a_list_that_differs_are_told() {
        let mut seen = standing();
        let stamp = |version, serial| Stamp { version, serial };
        seen.stamps = (stamp(4, 1), stamp(6, 2));
        seen.said.get_mut("b").unwrap().members = ["a", "b"].map(str::to_owned).into();
        let text = told("orders", &seen);
        for piece in [
            "Restored   a member knows a record of version 6, number 2, which is newer than this one (4, 1)",
            "Members    b was started with a, b, which are not those of the record",
        ] {
            assert!(text.contains(piece), "{text}");
        }
    }

    #[test]
    fn a_healthy_cluster_is_told_with_who_would_be_promoted() {
        assert_eq!(
            told("orders", &standing()),
            "Cluster    orders\n\
             Lease      version 4, held by a_1_2\n\
             Record     version 4, primary a; a commit is acknowledged by any 1 of b, c\n\
             Failover   ready if 2 of b, c are alive, which is not known here: the one with the most data would be promoted, and nothing acknowledged would be lost\n\
             MEMBER   ROLE      SEALED   LAST TERM   END    ADDRESS\n\
             a        primary   -        -           -      db-a:5432\n\
             b        voter     4        3           1/FF   -\n\
             c        voter     -        -           -      -\n"
        );
    }

    #[test]
    fn a_record_of_an_earlier_term_makes_nobody_the_primary() {
        let mut seen = standing();
        seen.version = 5;
        let text = told("orders", &seen);
        assert!(text.contains("Failover   not ready"), "{text}");
        assert!(text.contains("a        standby"), "{text}");
        seen.said.get_mut("a").unwrap().leads.as_mut().unwrap().version = 5;
        assert!(told("orders", &seen).contains("a        promoted, closed"), "it is not recorded yet");
        seen.holder = None;
        assert!(told("orders", &seen).contains("held by nobody"));
    }
}
