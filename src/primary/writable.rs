//! Until when a primary may be writable.
//!
//! While the store of the lease is away, replication is the lease: a write that voters acknowledged was received by members
//! that were not sealed when it began, so no quorum was, so nobody else was promoted before it began. A member promoted since
//! then is met by this primary for as long as a proof lasts at most, and all the while this primary acknowledges nothing, as
//! the quorum is sealed against it.

use std::time::Duration;

/// How long an acknowledged write proves that nobody else is primary. It bounds how long two servers may *be* writable,
/// of which one can acknowledge nothing; it does not bound what may be lost, which is nothing.
pub const PROOF_LASTS: Duration = Duration::from_secs(2);

/// An acknowledged write, as a proof that no quorum was sealed when it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Proof {
    begun: Duration,
}

impl Proof {
    /// The write that began at `begun` (boot clock) and was acknowledged once `acks` voters had it. `None` where the primary
    /// acknowledged alone: that proves nothing.
    #[must_use]
    pub fn of(begun: Duration, acks: usize) -> Option<Self> {
        (acks > 0).then_some(Self { begun })
    }
}

/// Until when the server may be writable, by this machine's boot clock: as long as its term lasts (`lease`), or its newest
/// proof. `None`: not at all.
///
/// Who held a term and holds it no more because the store does not answer is not asked here: somebody else may lead by now, and
/// the proof is what says that nobody was promoted.
#[must_use]
pub fn writable_until(lease: Option<Duration>, proof: Option<Proof>) -> Option<Duration> {
    lease.max(proof.map(|proof| proof.begun.saturating_add(PROOF_LASTS)))
}
