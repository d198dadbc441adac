//! Every word that the controller says about a resource: condition types, reasons and
//! event reasons. They are public API (`docs/reference.md`), so they come from here and never from
//! free text.

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant)),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// What a condition is about.
    ConditionType {
        /// Users reach the leader: the next four are true. Missing while the workload is scaled to nothing.
        Ready,
        /// The row has an unexpired holder.
        LeaderElected,
        /// That holder is a pod that we may route to.
        HolderAccepted,
        /// Exactly that pod carries the label and is ready, and the named Service reaches it and it alone.
        Routed,
        /// The last look at the database succeeded.
        DatabaseReachable,
        /// Only an edit can help; not a matter of time.
        Stalled,
        /// Only shown while it is true: the database gives out versions below one that was seen before.
        VersionRegressed,
        /// Only shown while it is true: terms are shorter than `spec.ttlSeconds` asks for.
        TtlLimited,
        /// Only shown while it is true: a participant goes on saying that it leads, and the row says otherwise.
        SplitBrain,
        /// Only shown while it is true: another database answers than the one that the resource has known.
        DatabaseChanged,
        /// Only shown while it is true: no workload owns the leader's pod any more.
        LeaderOrphaned,
        /// Only shown while it is true: nobody takes the lease, because somebody wants it so.
        Paused,
        /// Only shown while it is true: the leader changes too often.
        Flapping,
        /// Of a LeaseDatabase: the holder of the Lease is the primary, and acknowledges writes.
        PrimaryElected,
        /// Of a LeaseDatabase: every other declared member follows the primary.
        Replicating,
        /// Of a LeaseDatabase: another member would take over without loss if the primary died now.
        FailoverReady,
    }
}

words! {
    /// Why a condition is as it is.
    Reason {
        /// Ready: no controller of its class has looked at the resource yet.
        Pending,
        /// Ready: all is well.
        LeaderRouted,
        /// LeaderElected: the row is held and renewed.
        Held,
        /// LeaderElected: nobody holds the row.
        Vacant,
        /// LeaderElected: the holder stopped renewing.
        Expired,
        /// LeaderElected: nobody leads, and nobody may until what the database may have forgotten is over.
        Quarantine,
        /// LeaderElected: nobody leads, and nobody may while the election is paused.
        Paused,
        /// The row has not been looked at for long enough to tell.
        NotYetKnown,
        /// HolderAccepted: the holder is one of the candidate pods.
        HolderIsCandidate,
        /// HolderAccepted: the holder is no pod that this resource may route to.
        HolderRejected,
        /// There is no leader to judge or to route to.
        NoLeader,
        /// Routed: the label is where it belongs.
        LabelApplied,
        /// Routed: a pod that does not lead carries the leader label and cannot be stripped.
        StripFailed,
        /// Routed: the leader's pod could not be labelled.
        LabelFailed,
        /// Routed: somebody else put the leader label on a pod; it is being removed.
        ForeignLabel,
        /// Routed: the leader's pod, or its endpoint, is not ready.
        LeaderNotReady,
        /// Routed: the Service has no endpoint for the leader's pod.
        NoEndpoint,
        /// Routed: the Service of `spec.routing.service` does not exist.
        ServiceMissing,
        /// Routed: the Service does not select the leader's pod.
        ServiceSelectorMismatch,
        /// Routed: a Service of that name exists, and we did not make it.
        ServiceNotOurs,
        /// Routed: the managed Service could not be written.
        ServiceFailed,
        /// Routed: the API server refuses the managed Service as it is described.
        ServiceInvalid,
        /// Routed: the selector of the resource matches no pod.
        NoCandidates,
        /// Routed: there was a leader before, and now there is no pod: somebody scaled the workload to nothing.
        ScaledToZero,
        /// Stalled: nothing in the spec keeps the resource from becoming ready.
        NoEditNeeded,
        /// Routed: the controller may not watch or change what it needs to.
        Forbidden,
        /// DatabaseReachable: the last look succeeded.
        DatabaseAnswered,
        /// DatabaseReachable: the database does not answer.
        DatabaseUnreachable,
        /// DatabaseReachable: the database answers, but cannot be used as it is.
        DatabaseMisconfigured,
        /// Ready: another resource claims the same component, or the same label key on the same pods, and was first.
        Conflict,
        /// Ready: the resource cannot be reconciled as written.
        InvalidSpec,
        /// Ready: the component is not one of the resource's namespace, and nobody has allowed it.
        ComponentNotAllowed,
        /// VersionRegressed: the row's version is below the floor.
        VersionBelowFloor,
        /// VersionRegressed: the database knows of no version as high as the annotation says.
        VersionBelowAnnotation,
        /// TtlLimited: no lease of the database may last so long.
        AboveMaxTtl,
        /// SplitBrain: somebody claims a term that is another's or over.
        TermDisputed,
        /// DatabaseChanged: the UUID of the tables is another one, so nothing is done by what they say.
        AnotherDatabase,
        /// LeaderOrphaned: a workload that made the pod does not count it among its own.
        ReleasedByWorkload,
        /// Paused: `spec.paused` of this resource.
        PausedBySpec,
        /// Paused: somebody else, in the database.
        PausedByOperator,
        /// Flapping: more terms began within an hour than the resource says.
        ChangesTooOften,
        /// Ready: the primary's pod is routed to.
        PrimaryRouted,
        /// PrimaryElected: the record beside the Lease is the holder's own.
        Recorded,
        /// PrimaryElected: the holder of the Lease has not become the primary yet.
        Promoting,
        /// PrimaryElected: the record beside the Lease cannot be read.
        RecordUnreadable,
        /// PrimaryElected: the Lease has a holder that no member can have written.
        LeaseUnreadable,
        /// Replicating: every declared member but the primary acknowledges commits.
        AllFollow,
        /// Replicating: some members do not acknowledge commits.
        MembersMissing,
        /// Replicating: the members of the record are other ones than those of the spec.
        MembersDiffer,
        /// FailoverReady: so many members are ready that one of them would be promoted, and others would follow it.
        EnoughMembers,
        /// FailoverReady: too few members are ready.
        TooFewMembers,
        /// FailoverReady: another member would be promoted, and what only the primary has would be lost.
        WouldLoseCommits,
    }
}

words! {
    /// Why an Event is recorded.
    EventReason {
        LeaderElected,
        LeaseExpired,
        LeaseReleased,
        Quarantine,
        HolderEnded,
        HolderRejected,
        ForeignLabelRemoved,
        Conflict,
        InvalidSpec,
        ComponentNotAllowed,
        VersionRegressed,
        TtlLimited,
        SplitBrain,
        DatabaseChanged,
        LeaderOrphaned,
        Paused,
        Resumed,
        Flapping,
        HandOver,
        RequestAccepted,
        RequestCarriedOut,
        RequestRefused,
        RequestVoid,
        PrimaryElected,
        FailedOver,
        PrimaryLost,
        FailoverNotReady,
    }
}

words! {
    /// Why a `LeaseRequest` is in its state, as far as the controller says so itself. The other reasons are those of
    /// `operator::Refusal` and `operator::Outcome`.
    RequestReason {
        /// Pending: no controller has looked at the request yet.
        Pending,
        /// Pending: it is planned, and is being written into the database.
        Asking,
        /// Accepted: the leader has not made way yet.
        Waiting,
        /// Accepted: the lease is free, and nobody has taken it yet.
        LeaseFree,
        /// Pending, Accepted or Void: the database does not answer.
        DatabaseUnreachable,
        /// Refused: the database answers, but cannot be used as it is.
        DatabaseMisconfigured,
        /// Refused: another database answers than the one that the resource has known.
        AnotherDatabase,
        /// Refused: there is no such ComponentLease.
        NoSuchLease,
        /// Refused: the ComponentLease may not act, because another one was first.
        Conflict,
        /// Refused: the ComponentLease cannot be reconciled as written.
        InvalidSpec,
        /// Refused: the ComponentLease may not claim its component.
        ComponentNotAllowed,
        /// Refused: the holder says that it runs in another namespace.
        HolderElsewhere,
        /// Refused: the target is no candidate of the ComponentLease.
        TargetOutsideSelector,
        /// Refused: it is not known which pods there are.
        PodsUnknown,
        /// Refused: so many requests of the namespace are not finished that no more are looked at.
        TooManyRequests,
        /// Refused: the request itself is not one that can be asked.
        InvalidRequest,
        /// Planned: nothing was to be asked.
        DryRun,
        /// Void: nobody looked at it in time, so it was not asked.
        TooLate,
        /// Void: it was taken back, because it was not carried out in time.
        TimedOut,
    }
}

/// The status of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    True,
    False,
    Unknown,
}

impl Truth {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Truth {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

/// A condition without its times: what decides whether a status is written again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    pub kind: ConditionType,
    pub status: Truth,
    pub reason: Reason,
    pub message: String,
}

impl Condition {
    #[must_use]
    pub fn new(
        kind: ConditionType,
        status: impl Into<Truth>,
        reason: Reason,
        message: impl Into<String>,
    ) -> Self {
        Self { kind, status: status.into(), reason, message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outward_word_is_in_the_reference() {
        let reference = include_str!("../../docs/reference.md");
        let words = (ConditionType::ALL.iter().map(|w| w.as_str()))
            .chain(Reason::ALL.iter().map(|w| w.as_str()))
            .chain(EventReason::ALL.iter().map(|w| w.as_str()));
        for word in words {
            assert!(reference.contains(&format!("`{word}`")), "docs/reference.md does not name `{word}`");
        }
    }
}
