//! What a participant knows of the ends of terms: of its own, and of the one before. They are written into the history
//! by calls of their own, after those that ended the term, and of no consequence when they fail.

use tracing::warn;

use crate::election::machine::Sight;
use crate::election::{ComponentName, LeaseRow, Life, Moment, Request, StopReason, Take, Verb};
use crate::rate::repeats::SAID_AGAIN;
use crate::store::{EndReason, Ending, StoreError, When};

/// The end of one term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TermEnd {
    pub(super) version: i64,
    pub(super) ending: Ending,
}

#[derive(Debug, Default)]
pub(super) struct Endings {
    /// Of the own term that is over and not released yet, which may take a while; and since when.
    own: Option<(TermEnd, Moment)>,
    /// The version of the own term of which a release was not answered: it may have been applied.
    pub(super) unanswered: Option<i64>,
    /// To be written when there is time.
    pub(super) due: Option<TermEnd>,
    said: Option<Moment>,
}

impl Endings {
    /// The work of a term of ours has stopped; where it came to its end by itself, whether it succeeded. `over` is when
    /// the term was.
    pub(super) fn stopped(
        &mut self,
        version: i64,
        (reason, succeeded): (StopReason, Option<bool>),
        request: Option<&Request>,
        over: Moment,
    ) {
        let Some(ended) = ended(reason, succeeded) else { return };
        let asked = request.filter(|request| request.version == version && is_asked(reason));
        let ending = Ending { request: asked.map(|request| request.id.clone()), ..Ending::now(ended) };
        self.own = Some((TermEnd { version, ending }, over));
    }

    /// This term of ours was released at `now`.
    pub(super) fn released(&mut self, version: i64, now: Moment) -> TermEnd {
        match self.own.take().filter(|(own, _)| own.version == version) {
            Some((own, over)) => {
                let ago = now.saturating_sub(over);
                TermEnd { ending: Ending { at: When::Ago(ago), ..own.ending }, ..own }
            }
            // It was taken too late to be led, or the answer never came.
            None => TermEnd { version, ending: Ending::now(EndReason::Deadline) },
        }
    }

    /// What is known of the own term that was over before this look, which shows that somebody gave it back: the answer
    /// to the release was lost. Where the next term has begun already, its taker may have written the same end, and
    /// then this function returns `None`. A row with another numbering says nothing about this term.
    pub(super) fn found_released(&mut self, row: Option<&LeaseRow>, now: Moment) -> Option<TermEnd> {
        let version = self.own.as_ref().map(|(own, _)| own.version)?;
        let row = row?;
        let given_back = row.version == version && row.is_free();
        let taken = version.checked_add(1) == Some(row.version);
        (given_back || taken).then(|| self.released(version, now))
    }

    /// That an end could not be written is said once a minute at most.
    pub(super) fn failed(&mut self, component: &ComponentName, now: Moment, error: &StoreError) {
        if self.said.is_none_or(|said| now >= said + SAID_AGAIN) {
            self.said = Some(now);
            warn!(%component, %error, "the end of a term could not be written into component_lease_history; nothing else is affected");
        }
    }
}

/// Only of these it is written down who asked.
fn is_asked(reason: StopReason) -> bool {
    matches!(reason, StopReason::SteppedDown | StopReason::SwitchedOver | StopReason::Promoted)
}

/// A term that was lost is ended by who took it.
fn ended(reason: StopReason, succeeded: Option<bool>) -> Option<EndReason> {
    Some(match reason {
        StopReason::Lost => return None,
        StopReason::Deadline => EndReason::Deadline,
        StopReason::Unhealthy => EndReason::Unhealthy,
        StopReason::SteppedDown => EndReason::SteppedDown,
        StopReason::SwitchedOver => EndReason::SwitchedOver,
        StopReason::Promoted => EndReason::Promoted,
        StopReason::Draining => match succeeded {
            None => EndReason::Released,
            Some(true) => EndReason::WorkEnded,
            Some(false) => EndReason::WorkFailed,
        },
    })
}

/// What a take that is applied tells of the term before. `None` where there was none, or its holder gave it back and
/// knows better.
pub(super) fn before(
    take: &Take,
    sight: Option<&Sight>,
    life: Option<&Life>,
    request: Option<&Request>,
    now: Moment,
) -> Option<TermEnd> {
    let sight = sight?;
    let recorded = sight.past.recorded();
    if recorded == 0 {
        return None;
    }
    let end = |reason, at| Some(TermEnd { version: recorded, ending: Ending { at, ..Ending::now(reason) } });
    // An epoch has begun since, or it is the history that knows more than the row.
    let another = |version: i64| life.is_some_and(|life| version < life.base());
    let Some(row) = &sight.row else {
        let reason = if another(recorded) { EndReason::DatabaseChanged } else { EndReason::Foreign };
        return end(reason, When::NOW);
    };
    if row.version != recorded {
        let older = row.version < recorded;
        let reason = if older { EndReason::DatabaseChanged } else { EndReason::Foreign };
        return end(reason, When::At(row.lease_time));
    }
    if row.is_free() {
        return None;
    }
    let lapsed = now >= sight.since + row.judged_ttl();
    let now_asked = request.filter(|request| {
        request.verb == Verb::PromoteNow
            && request.is_about(Some(row))
            && request.target.as_ref() == Some(&take.term.holder)
    });
    match now_asked {
        Some(request) if !lapsed => {
            let request = Some(request.id.clone());
            let ending = Ending { request, ..Ending::now(EndReason::Promoted) };
            Some(TermEnd { version: recorded, ending })
        }
        _ if another(row.version) => end(EndReason::DatabaseChanged, When::At(row.renew_time)),
        _ => end(EndReason::Expired, When::At(row.renew_time)),
    }
}
