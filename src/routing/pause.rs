//! A pause of the election: what a resource asks for, what stands in the database, and what is to be changed there.

/// Nobody takes the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// Who wanted that, in their own words.
    pub by: String,
    /// Why, in their own words; may be empty.
    pub reason: String,
}

/// What a resource says about a pause.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PauseWish {
    /// Nothing: a pause of somebody else stays, one of its own ends.
    #[default]
    Unsaid,
    /// There is to be one, for this reason.
    Paused(String),
    /// There is to be none, of nobody.
    Running,
}

/// What stands in the database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PauseSight {
    /// It has not been asked, or another database answers.
    #[default]
    Unknown,
    Running,
    Paused(Pause),
}

impl PauseSight {
    #[must_use]
    pub fn pause(&self) -> Option<&Pause> {
        match self {
            Self::Paused(pause) => Some(pause),
            Self::Unknown | Self::Running => None,
        }
    }
}

/// What begins the name of a resource that wants a pause.
const RESOURCE: &str = "ComponentLease ";

/// As whom a resource wants a pause: by this it knows its own again.
#[must_use]
pub fn pauser(namespace: &str, name: &str) -> String {
    format!("{RESOURCE}{namespace}/{name}")
}

/// Whether a resource wanted it. Where no resource claims the component any more, nobody else would end it.
#[must_use]
pub fn is_of_a_resource(by: &str) -> bool {
    by.starts_with(RESOURCE)
}

/// What is to be changed in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PauseChange {
    /// In place of the one of this one, if there is any.
    Begin(Pause, Option<String>),
    /// Of this one; `None`: of anybody.
    End(Option<String>),
}

/// What the resource that is called so changes, by what is known of the database.
#[must_use]
pub fn change(me: &str, wish: &PauseWish, sight: &PauseSight) -> Option<PauseChange> {
    // One of a resource is for the resource to end that claims the component now: the other is gone, or came too late.
    let ours = |pause: &Pause| is_of_a_resource(&pause.by);
    match (wish, sight) {
        (_, PauseSight::Unknown) => None,
        // One of somebody else pauses as well, and is theirs to end.
        (PauseWish::Paused(_), PauseSight::Paused(pause)) if !ours(pause) => None,
        (PauseWish::Paused(reason), PauseSight::Paused(pause))
            if pause.by == me && pause.reason == *reason =>
        {
            None
        }
        (PauseWish::Paused(reason), _) => {
            let over = sight.pause().map(|pause| pause.by.clone());
            Some(PauseChange::Begin(Pause { by: me.to_owned(), reason: reason.clone() }, over))
        }
        (PauseWish::Unsaid, PauseSight::Paused(pause)) if ours(pause) => {
            Some(PauseChange::End(Some(pause.by.clone())))
        }
        (PauseWish::Running, PauseSight::Paused(_)) => Some(PauseChange::End(None)),
        (PauseWish::Unsaid | PauseWish::Running, _) => None,
    }
}

/// In brackets, if there is any reason.
pub(super) fn why(pause: &Pause) -> String {
    if pause.reason.is_empty() { String::new() } else { format!(" ({})", pause.reason) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(by: &str, reason: &str) -> PauseSight {
        PauseSight::Paused(Pause { by: by.to_owned(), reason: reason.to_owned() })
    }

    #[test]
    fn a_resource_begins_and_ends_its_own_pause_and_one_of_others_only_if_it_says_so() {
        let ours = pauser("shop", "web");
        let paused = |reason: &str| PauseWish::Paused(reason.to_owned());
        let begin = |reason: &str, over: Option<&str>| {
            let pause = Pause { by: ours.clone(), reason: reason.to_owned() };
            Some(PauseChange::Begin(pause, over.map(ToOwned::to_owned)))
        };
        let gone = pauser("shop", "gone");
        let end = |of: Option<&str>| Some(PauseChange::End(of.map(ToOwned::to_owned)));
        for (wish, sight, wanted) in [
            (paused("x"), PauseSight::Running, begin("x", None)),
            (paused("x"), by(&ours, "x"), None),
            (paused("y"), by(&ours, "x"), begin("y", Some(&ours))),
            (paused("x"), by("ada", "z"), None),
            (paused("x"), PauseSight::Unknown, None),
            (PauseWish::Unsaid, by(&ours, "x"), end(Some(&ours))),
            (PauseWish::Unsaid, by("ada", "z"), None),
            (PauseWish::Unsaid, by(&gone, "z"), end(Some(&gone))),
            (paused("x"), by(&gone, "x"), begin("x", Some(&gone))),
            (PauseWish::Unsaid, PauseSight::Running, None),
            (PauseWish::Running, by(&ours, "x"), end(None)),
            (PauseWish::Running, by("ada", "z"), end(None)),
            (PauseWish::Running, PauseSight::Running, None),
            (PauseWish::Running, PauseSight::Unknown, None),
        ] {
            assert_eq!(change(&ours, &wish, &sight), wanted, "{wish:?} {sight:?}");
        }
        assert!(is_of_a_resource(&ours) && !is_of_a_resource("ada"));
    }
}
