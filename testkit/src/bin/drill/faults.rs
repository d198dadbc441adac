//! What is done to the cluster.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use component_lease_testkit::tcp_proxy::Path;
use component_lease_testkit::wait;
use rustix::process::Signal;

use crate::judge::{self, Round};
use crate::ours::TERM;
use crate::site::Site;
use crate::writer::Writer;
use crate::{PATIENCE, processes};

/// How long the lease cannot be reached.
const AWAY: Duration = Duration::from_secs(15);

/// The kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An operator asks the primary's lease to move.
    Switchover,
    /// SIGTERM to the primary's supervisor, which is started again.
    Terminated,
    /// SIGKILL to the primary's first process.
    ServerKilled,
    /// The same, and to its supervisor at the same time.
    BothKilled,
    /// SIGSTOP to the primary, its supervisor and all between them, for longer than a term.
    Frozen,
    /// SIGKILL to a standby's first process.
    StandbyKilled,
    /// Nothing gets through between the members and the lease.
    StoreAway,
    /// Nothing gets through between the primary and the others, nor between it and the lease.
    CutOff,
    /// Nothing that the primary sends arrives at the others or at the lease.
    Mute,
    /// Nothing that the others or the lease send arrives at the primary.
    Deaf,
    /// Nothing gets through between the primary alone and the lease.
    CutFromStore,
}

pub(crate) const KINDS: [Kind; 11] = [
    Kind::Switchover,
    Kind::ServerKilled,
    Kind::BothKilled,
    Kind::Frozen,
    Kind::StandbyKilled,
    Kind::Terminated,
    Kind::StoreAway,
    Kind::CutOff,
    Kind::Mute,
    Kind::Deaf,
    Kind::CutFromStore,
];

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Switchover => "planned: switchover",
            Self::Terminated => "planned: SIGTERM",
            Self::ServerKilled => "server killed",
            Self::BothKilled => "server, supervisor killed",
            Self::Frozen => "primary frozen",
            Self::StandbyKilled => "standby killed",
            Self::StoreAway => "store of the lease away",
            Self::CutOff => "primary cut off",
            Self::Mute => "cut: primary is not heard",
            Self::Deaf => "cut: primary hears nothing",
            Self::CutFromStore => "primary cut from the store",
        }
    }

    /// By the word that KINDS has for it.
    pub(crate) fn parse(word: &str) -> Result<Self> {
        Ok(match word {
            "switchover" => Self::Switchover,
            "sigterm" => Self::Terminated,
            "server" => Self::ServerKilled,
            "both" => Self::BothKilled,
            "frozen" => Self::Frozen,
            "standby" => Self::StandbyKilled,
            "store" => Self::StoreAway,
            "cut" => Self::CutOff,
            "mute" => Self::Mute,
            "deaf" => Self::Deaf,
            "cut-from-store" => Self::CutFromStore,
            _ => bail!(
                "KINDS knows switchover, sigterm, server, both, frozen, standby, store, cut, mute, deaf and \
                 cut-from-store, and not {word:?}"
            ),
        })
    }

    /// How long nothing may be acknowledged with our term. The death of a standby has none: it costs no primary.
    pub(crate) fn aim(self) -> Option<Duration> {
        match self {
            Self::Switchover | Self::Terminated => Some(Duration::from_secs(1)),
            Self::ServerKilled => Some(Duration::from_millis(1500)),
            Self::BothKilled | Self::Frozen | Self::CutOff | Self::Mute | Self::Deaf | Self::CutFromStore => {
                Some(TERM + Duration::from_millis(1500))
            }
            Self::StoreAway => Some(Duration::from_millis(500)),
            Self::StandbyKilled => None,
        }
    }
}

/// Does it, waits until the cluster is whole again, and looks for what was lost. Rows beyond those that are `counted` already
/// count as acknowledged in this round.
pub(crate) async fn inflict(
    kind: Kind,
    site: &mut Site,
    writer: &Writer,
    counted: &mut usize,
) -> Result<Round> {
    let primary = judge::whole(site, writer).await?;
    let target = if kind == Kind::StandbyKilled { (primary + 1) % site.members.len() } else { primary };
    let before = processes::of_server(&site.members[target].files.data())?;
    let fault = Instant::now();
    let mut left = 0;
    // From when on the old primary must not acknowledge anything.
    let mut replaced = None;
    match kind {
        Kind::Switchover => site.switch_over(primary).await?,
        Kind::Terminated => left = terminate(site, target, writer, fault).await?,
        Kind::ServerKilled | Kind::StandbyKilled => site.members[target].kill_server()?,
        Kind::BothKilled => left = kill_both(site, target, writer, fault).await?,
        Kind::Frozen => replaced = Some(freeze(site, target, writer, fault).await?),
        Kind::StoreAway => take_the_store_away(site, fault).await?,
        Kind::CutOff | Kind::Mute | Kind::Deaf | Kind::CutFromStore => {
            replaced = Some(cut(kind, site, target, writer, fault).await?);
        }
    }
    let now = judge::whole(site, writer).await?;
    if !matches!(kind, Kind::StoreAway) {
        left += processes::of_server(&site.members[target].files.data())?.intersection(&before).count();
    }
    let rows = writer.rows();
    let of_round = &rows[rows.partition_point(|row| row.at <= fault)..];
    let late = of_round.iter().filter(|row| row.server == target && replaced.is_some_and(|at| row.at >= at));
    Ok(Round {
        kind,
        outage: judge::outage(&rows, fault),
        acknowledged: rows.len() - std::mem::replace(counted, rows.len()),
        lost: judge::lost(&site.urls()[now], &rows).await?,
        late: late.count(),
        left,
    })
}

/// Starts it again once another one is the primary. How many processes outlived the supervisor.
async fn terminate(site: &mut Site, target: usize, writer: &Writer, fault: Instant) -> Result<usize> {
    site.members[target].signal(Signal::TERM)?;
    site.members[target].ended().await?;
    let left = processes::of_server(&site.members[target].files.data())?.len();
    writer.goes_on(fault, Some(target)).await?;
    site.run(target)?;
    Ok(left)
}

/// Likewise; they must be gone when another server acknowledges.
async fn kill_both(site: &mut Site, target: usize, writer: &Writer, fault: Instant) -> Result<usize> {
    site.members[target].signal(Signal::KILL)?;
    site.members[target].kill_server()?;
    site.members[target].ended().await?;
    writer.goes_on(fault, Some(target)).await?;
    let left = processes::of_server(&site.members[target].files.data())?.len();
    site.run(target)?;
    Ok(left)
}

/// When it woke: after its term, and after another one was the primary.
async fn freeze(site: &Site, target: usize, writer: &Writer, fault: Instant) -> Result<Instant> {
    let (first, data) = (site.members[target].pid()?, site.members[target].files.data());
    wait::until(PATIENCE, "all of the primary to stand still", async || {
        Ok(processes::freeze(first, &data)?.then_some(()))
    })
    .await?;
    let next = writer.goes_on(fault, Some(target)).await;
    let term =
        wait::until_true(PATIENCE, "the term to be over", async || fault.elapsed() > site.term() * 5 / 4)
            .await;
    let woke = Instant::now();
    processes::thaw(first, &data)?;
    next?;
    term?;
    Ok(woke)
}

async fn take_the_store_away(site: &Site, fault: Instant) -> Result<()> {
    site.members.iter().for_each(|member| member.to_store.black_hole());
    let over = wait::until_true(AWAY * 2, "the store to come back", async || fault.elapsed() >= AWAY).await;
    site.members.iter().for_each(|member| member.to_store.heal());
    over
}

/// When another one was the primary. The network is whole again once the old one's term is over, too.
async fn cut(kind: Kind, site: &Site, target: usize, writer: &Writer, fault: Instant) -> Result<Instant> {
    let member = &site.members[target];
    match kind {
        Kind::Mute => {
            member.to_store.set_paths(Path::Stalled, Path::Open);
            member.to_server.set_paths(Path::Open, Path::Stalled);
            member.to_http.set_paths(Path::Open, Path::Stalled);
        }
        Kind::Deaf => {
            member.to_store.set_paths(Path::Open, Path::Stalled);
            member.to_server.set_paths(Path::Stalled, Path::Open);
            member.to_http.set_paths(Path::Stalled, Path::Open);
        }
        Kind::CutFromStore => member.to_store.black_hole(),
        _ => {
            member.to_store.black_hole();
            member.to_server.black_hole();
            member.to_http.black_hole();
        }
    }
    let next = writer.goes_on(fault, Some(target)).await;
    let replaced = Instant::now();
    let term =
        wait::until_true(PATIENCE, "the term to be over", async || fault.elapsed() > site.term() * 5 / 4)
            .await;
    member.to_store.heal();
    member.to_server.heal();
    member.to_http.heal();
    next?;
    term?;
    Ok(replaced)
}
