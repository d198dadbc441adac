//! What the one who runs a member asks of its server, whatever kind of database it is.
//!
//! ```text
//!            start                 follow                                  rejoin
//!  (ended) ────────▶ standby, alone ────────▶ standby of a primary    (ended) ────────▶ standby of a primary
//!                        ▲   │ seal: back to alone, with a promise on disk
//!                        │   │ promote
//!                   start│   ▼
//!  (ended) ◀──────── primary, closed ── set_names ──▶ primary, open
//!            end
//! ```
//! A server always starts as a standby that follows nobody. An engine keeps its promises by itself: it follows no primary
//! below its seal, promotes only a member that is sealed at that very version, and acknowledges nothing before names are
//! set. It never decides: a caller that follows the rules of `primary` is assumed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;

use crate::election::Moment;
use crate::primary::{Names, Position, Report};

/// What a member is known by: the name that is declared, or the bearer of that name ([`primary::bearer`](crate::primary::bearer)). To an engine
/// it is what its server calls itself.
pub type Member = String;

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EngineError {
    /// It cannot work until a person changes something. The text says what.
    #[error("{0}")]
    Refused(String),
    /// It may work when it is tried again.
    #[error("{0}")]
    Failed(String),
}

impl EngineError {
    pub fn refused(why: impl Into<String>) -> Self {
        Self::Refused(why.into())
    }

    pub fn failed(why: impl Into<String>) -> Self {
        Self::Failed(why.into())
    }

    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

/// The primary of a version, and where the other members reach its server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    pub member: Member,
    pub version: i64,
    pub host: String,
    pub port: u16,
}

/// What a server is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It takes no writes.
    Standby,
    /// It takes writes; whether it acknowledges them is another matter.
    Primary,
}

/// From whom a standby receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub host: String,
    pub port: u16,
    /// The line of history on which it receives.
    pub line: u32,
    /// Where the log of that one ends, as it has said last; it sends this with each part of the log.
    pub end: u64,
}

/// A look at a server. **That it receives proves nothing**: a member whose data has left the history of its primary may
/// receive as well. [`Engine::follow`] and [`Engine::rejoin`] prove that it has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    pub role: Role,
    /// Which data it has.
    pub system: u64,
    /// The last term in its data that can be read by now, and the end of its log on disk.
    pub position: Position,
    /// How far the log is part of the data that can be read.
    pub applied: u64,
    /// The version that it is sealed at; 0 before the first.
    pub sealed: i64,
    /// The line of history (PostgreSQL: the timeline) on which it is, as far as it is known: never too high.
    pub line: u32,
    pub receives: Option<Received>,
    /// What somebody else has done to it, for a person; mended where that is possible.
    pub tampered: Vec<String>,
}

/// What became of following.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Followed {
    /// Its data is a beginning of the primary's, and it asks that one for the rest.
    Follows,
    /// It has what the primary never had, from this end of the log on. It follows nobody: [`Engine::rejoin`] it.
    Diverged { fork: u64 },
    /// The primary no longer has the log that this member lacks. It follows nobody: only a copy helps.
    TooFarBehind,
}

/// How a member came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejoined {
    /// It had nothing that the primary lacks.
    Followed,
    /// What the primary never had was taken back.
    Rewound,
    /// It was copied from the primary.
    Cloned,
}

/// Whether a member may be copied anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cloning {
    /// Only where there is no data at all.
    IfEmpty,
    /// Also where it can be brought back in no other way. What was there is kept aside.
    IfNeeded,
    /// Whatever is there. It is kept aside.
    Always,
}

/// A write that was acknowledged as the names want it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// When the write began, by this machine's boot clock: what it proves, it proves of this moment.
    pub began: Moment,
    /// Which one of this term it is.
    pub seq: i64,
    /// The log up to here is on the disks of as many voters as the names say.
    pub end: u64,
    /// How many that are.
    pub acks: usize,
}

/// How a server is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Everything is on its disk and with those that follow it, unless that takes longer; then as [`End::AtOnce`].
    InOrder { within: Duration },
    /// It acknowledges nothing more from now on; what has not ended after this is killed.
    AtOnce { grace: Duration },
}

/// One server of one member.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Starts the server as a standby that follows nobody, and refuses settings under which promises cannot be kept. Done
    /// when it can be asked. Where there are no data, or those of an interrupted repair, it is refused: [`Engine::rejoin`].
    async fn start(&self) -> Result<(), EngineError>;

    /// Whether any process of the server is left.
    fn runs(&self) -> bool;

    /// Resolves when the server has ended and nothing of it is left, whatever ended it.
    async fn ended(&self);

    async fn observe(&self) -> Result<Observed, EngineError>;

    /// The version that the member is sealed at, also while its server has ended; 0 before the first.
    fn sealed(&self) -> Result<i64, EngineError>;

    /// The version of the last primary of whose history the data are a beginning, also while the server has ended; 0 if none is known.
    fn of(&self) -> Result<i64, EngineError>;

    /// Keeps a text beside the data, in the place of the last one, so that it outlives a loss of power.
    fn keep(&self, text: &str) -> Result<(), EngineError>;

    /// What was kept last.
    fn kept(&self) -> Result<Option<String>, EngineError>;

    /// The data turned out to be older than what was said of them: from the next start on they are another bearer's.
    fn forget_identity(&self) -> Result<(), EngineError>;

    /// Stops receiving, makes what was received part of the data, and promises on disk to acknowledge nothing to a primary
    /// below this version. Done again, it answers again.
    async fn seal(&self, version: i64) -> Result<Report, EngineError>;

    /// Follows a primary whose history contains the data of this member, after it has sealed itself at that version.
    async fn follow(&self, leader: &Leader) -> Result<Followed, EngineError>;

    /// Makes a sealed standby the primary, which acknowledges nothing: its names are [`Names::Nobody`], proved by a write that
    /// waits. The row of its term is the first thing it writes. `others` may follow it from then on.
    ///
    /// The position is that of this row: who has the log up to there has the term.
    async fn promote(
        &self,
        version: i64,
        holder: &str,
        others: &BTreeSet<Member>,
    ) -> Result<Position, EngineError>;

    /// Lets a primary go on under a later version, with its names: it writes its row anew. Nobody receives from it any more who is not sealed at
    /// that version; `others` may follow it from then on.
    async fn go_on(&self, version: i64, holder: &str, others: &BTreeSet<Member>) -> Result<(), EngineError>;

    /// What the primary keeps of its log for these members changes with them.
    async fn expect(&self, others: &BTreeSet<Member>) -> Result<(), EngineError>;

    /// Lets the primary wait for these, and returns when each of its processes does: an end of the log, up to which anything
    /// may have been acknowledged under the names before.
    async fn set_names(&self, names: &Names<Member>) -> Result<u64, EngineError>;

    /// Up to where the members that receive have the primary's log on disk.
    async fn progress(&self) -> Result<BTreeMap<Member, u64>, EngineError>;

    /// A write that waits as every commit does. One that is not acknowledged within `limit` goes on waiting: the next call
    /// waits for the same one first.
    async fn beat(&self, limit: Duration) -> Result<Beat, EngineError>;

    /// Returns when no process of the server is left.
    async fn end(&self, how: End) -> Result<(), EngineError>;

    /// Brings back a member whose server has ended: recovers it alone, where nobody can connect; takes back what the primary
    /// never had; lets it follow; and waits until it has data that only the primary of this version can have.
    async fn rejoin(&self, leader: &Leader, clone: Cloning) -> Result<Rejoined, EngineError>;

    /// By when the server must have ended, unless this is said again: guardians see to it, should this process hang or end.
    /// `None`: it may run on.
    fn abort_at(&self, moment: Option<Moment>);

    /// For a thread of last resort: kills what it sees of the server, for as long as `limit`. Whether there was any.
    fn kill(&self, limit: Duration) -> bool;
}
