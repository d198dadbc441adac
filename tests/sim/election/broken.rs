//! The rules that are broken on purpose; which search finds each is said in `election.rs`.

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Broken {
    /// A row is seizable when the database's clock says so.
    DatabaseClock,
    /// A row is unchanged since the look was sent.
    SightFromRequest,
    /// A term lasts from the answer on.
    DeadlineFromAnswer,
    /// A renewal writes the database's time, whatever the row says.
    RenewalMayWriteTheSame,
    /// A participant that reads its own name in the row leads.
    LeadingByReading,
    /// The row is given back while the work still runs.
    ReleaseBeforeStop,
    /// Versions count on from whatever the row says.
    VersionWithoutEpoch,
    /// Epochs are counted by one.
    EpochWithoutDate,
    /// A change of the database is not waited out.
    NoQuarantine,
    /// It is, but a released or missing row is taken.
    QuarantineForHeldRowsOnly,
    /// A missing row is inserted at once.
    DeletedRowInsertedAtOnce,
    /// An insertion does not look at the history.
    InsertNotBoundToHistory,
    /// A take asks for the recorded epoch and not for the server.
    TakeNotBoundToTheIdentity,
    /// A take compares what it was decided on with the record, not with the server itself.
    TakeBoundToTheRecord,
    /// The line in the history is written when the take is done, if it is.
    HistoryAfterTheTake,
    /// A participant that waited out any quarantine ends the one that is under way.
    SettledNotBoundToItsEpoch,
    /// A term may last longer than anybody waits for a lost one.
    TtlAboveTheLongest,
    /// A term that is over is released in whatever life of the database the release arrives.
    LateReleaseNotBoundToTheIdentity,
    /// Its release compares the life of the term with the record, not with the server itself.
    LateReleaseBoundToTheRecord,
    /// Its release compares the server, and not the epoch.
    LateReleaseNotBoundToTheEpoch,
    /// It is released on a table whose lives nobody can tell apart.
    LateReleaseOfABareTable,
    /// The right to release a term is kept after another row was seen.
    RightKeptAfterAnotherRow,
    /// It is kept after another life of the database was seen, and used there.
    RightKeptAfterAnotherLife,
    /// It is kept when the participant takes again.
    RightKeptWhenTakingAgain,
    /// That the history ends before what was seen of it says nothing.
    HistoryMayEndBefore,
    /// A request is obeyed in whatever term it is seen.
    RequestNotBoundToItsTerm,
    /// A take does not look whether the election is paused.
    PauseNotInTheTake,
}

impl Broken {
    /// Found only in the small worlds that are made for them.
    pub(super) fn keeps_the_right(self) -> bool {
        matches!(
            self,
            Self::LateReleaseOfABareTable
                | Self::RightKeptAfterAnotherRow
                | Self::RightKeptAfterAnotherLife
                | Self::RightKeptWhenTakingAgain
        )
    }
}
