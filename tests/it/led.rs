//! Who says that it leads, asked all the time and noted on the boot clock.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use component_lease::clock::{Clock, SystemClock};
use component_lease::participant::Participant;

/// From the first to the last time that a participant said "I lead" under a version.
#[derive(Debug, Clone)]
pub(crate) struct Term {
    pub(crate) component: String,
    pub(crate) holder: String,
    pub(crate) version: i64,
    pub(crate) from: Duration,
    pub(crate) to: Duration,
    /// How often it said otherwise in between.
    pub(crate) gaps: u32,
    silent: bool,
}

#[derive(Default)]
struct Notes {
    asked: Vec<Arc<Participant>>,
    terms: Vec<Term>,
}

/// A thread that asks; ends with this value.
pub(crate) struct Watch {
    notes: Arc<Mutex<Notes>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

fn lock(notes: &Mutex<Notes>) -> MutexGuard<'_, Notes> {
    notes.lock().unwrap()
}

impl Watch {
    pub(crate) fn start() -> Self {
        let (notes, end) = (Arc::<Mutex<Notes>>::default(), Arc::<AtomicBool>::default());
        let (its_notes, its_end) = (Arc::clone(&notes), Arc::clone(&end));
        let thread = std::thread::spawn(move || {
            while !its_end.load(Ordering::Relaxed) {
                let mut notes = lock(&its_notes);
                for participant in notes.asked.clone() {
                    ask(&participant, &mut notes.terms);
                }
                drop(notes);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Self { notes, end, thread: Some(thread) }
    }

    pub(crate) fn add(&self, participant: &Arc<Participant>) {
        lock(&self.notes).asked.push(Arc::clone(participant));
    }

    /// In the order in which they began.
    pub(crate) fn terms(&self, component: &str) -> Vec<Term> {
        lock(&self.notes).terms.iter().filter(|term| term.component == component).cloned().collect()
    }

    #[track_caller]
    pub(crate) fn nobody_led_beside_another(&self) {
        let notes = lock(&self.notes);
        for (place, later) in notes.terms.iter().enumerate() {
            for earlier in notes.terms[..place].iter().filter(|term| term.component == later.component) {
                assert!(earlier.to < later.from, "both led: {earlier:?} and {later:?}");
                assert!(earlier.version < later.version, "versions do not rise: {earlier:?}, {later:?}");
            }
        }
    }
}

/// One thread asks all of them in turn, so the moments are in the order of the answers.
fn ask(participant: &Participant, terms: &mut Vec<Term>) {
    let (component, holder) = (participant.component().as_str(), participant.holder().as_str());
    let guard = participant.term();
    let now = SystemClock.boot();
    let of = |term: &Term| term.component == component && term.holder == holder;
    let Some(guard) = guard else {
        terms.iter_mut().filter(|term| of(term)).for_each(|term| term.silent = true);
        return;
    };
    let version = guard.version();
    if let Some(term) = terms.iter_mut().find(|term| of(term) && term.version == version) {
        term.gaps += u32::from(term.silent);
        (term.to, term.silent) = (now, false);
    } else {
        let (component, holder) = (component.to_owned(), holder.to_owned());
        terms.push(Term { component, holder, version, from: now, to: now, gaps: 0, silent: false });
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
