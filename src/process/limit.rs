//! Problems that repeat, once in a while.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Whether a problem of this kind is said now.
pub type Due = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// Lets a warning with an `error` through once in a while: told apart by where it is written and by the
/// error's text, not by which of a thousand objects met it.
pub(super) struct Limit(pub(super) Due);

impl<S: Subscriber> Layer<S> for Limit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        if *event.metadata().level() > Level::WARN {
            return true;
        }
        let mut found = ErrorField(None);
        event.record(&mut found);
        found.0.is_none_or(|error| (self.0)(&format!("{}: {error}", event.metadata().name())))
    }
}

struct ErrorField(Option<String>);

impl Visit for ErrorField {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "error" {
            self.0 = Some(format!("{value:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::{info, warn};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    struct Counts(Arc<Mutex<u32>>);

    impl<S: Subscriber> Layer<S> for Counts {
        fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
            *self.0.lock().unwrap() += 1;
        }
    }

    #[test]
    fn only_warnings_with_an_error_are_limited_and_by_place_and_error() {
        let (count, said) = (Arc::<Mutex<u32>>::default(), Mutex::new(Vec::<String>::new()));
        let due = move |kind: &str| {
            let mut said = said.lock().unwrap();
            let new = !said.iter().any(|before| before == kind);
            said.push(kind.to_owned());
            new
        };
        let subscriber =
            tracing_subscriber::registry().with(Counts(Arc::clone(&count))).with(Limit(Box::new(due)));
        tracing::subscriber::with_default(subscriber, || {
            for number in 0..5 {
                info!(number, error = "a", "told each time");
                warn!(number, "told each time");
                warn!(number, error = "a", "told once");
                warn!(number, error = if number == 4 { "b" } else { "a" }, "told twice");
            }
        });
        assert_eq!(*count.lock().unwrap(), 5 + 5 + 1 + 2);
    }
}
