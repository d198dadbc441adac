//! What can happen next, and which rules can be broken.

/// A rule that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// Patches carry no resource version.
    NoGuard,
    /// The leader is labelled before the others are stripped.
    LabelFirst,
    /// A strip that failed does not keep another pod from being labelled.
    StripUnconfirmed,
    /// Nothing but labels is written.
    NoStamps,
    /// A stamp whose outcome is unknown does not keep a pod from being labelled.
    StampUnconfirmed,
    /// A row that is older than a stamp is acted upon.
    NoLookAgain,
    /// A row that was looked at again counts as confirmed for pods that were seen later, too.
    ConfirmedForLater,
    /// With the database down, a row that is older than a stamp is acted upon.
    BehindWhileDown,
    /// Before the row was seen, the status is believed.
    StatusAsRow,
    /// After a conflict one pod is read anew, and the others are as old as they were.
    RereadOnePod,
    /// What a patch answered is laid over a view in which the others are as old as they were.
    OwnAnswersOverlaid,
    /// The view may show a pod and miss an older one.
    CacheOutOfOrder,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Answered,
    /// Sent and given up: it may arrive later, or never.
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Take(usize),
    Release,
    /// A foreign holder raises the version with its renewal.
    Renew,
    Create,
    Delete(usize),
    ForeignLabel(usize),
    /// The watch of this controller's cache delivers this many entries.
    Watch(usize, usize),
    Poll(usize),
    ReadStatus(usize),
    Decide(usize, Sight),
    Confirm(usize),
    Send(usize, usize, Call),
    WriteStatus(usize),
    Crash(usize),
    Arrive(usize),
}

/// How the row looks to a controller, beside its age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    Held,
    Expired,
    /// The database does not answer this controller.
    Down,
    /// This controller has just begun and has not reached the database.
    Never,
}
