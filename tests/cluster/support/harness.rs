//! The runtime in which the tests of this target run: `#[tokio::test(crate = "crate::harness")]` takes it in the
//! place of tokio's. Almost no test here panics: most end with an error, and by then nothing is left to ask what was
//! in their namespaces. So a namespace that a test has done with is kept until its outcome is known, and is printed
//! before it goes if the test has failed.

use std::cell::RefCell;
use std::fmt::Debug;

use component_lease_testkit::control_plane::Namespace;
pub use tokio::pin;

thread_local! {
    /// `None` while no test runs here.
    static LEFT: RefCell<Option<Vec<Namespace<'static>>>> = const { RefCell::new(None) };
}

/// Keeps a namespace until the test that runs on this thread has ended; elsewhere it goes now.
pub fn leave(namespace: Namespace<'static>) {
    // One that is dropped by a panic is printed there and then.
    if !std::thread::panicking() {
        LEFT.with_borrow_mut(|left| left.as_mut().map(|left| left.push(namespace)));
    }
}

/// How a test can end.
pub trait Outcome {
    fn failed(&self) -> bool;
}

impl Outcome for () {
    fn failed(&self) -> bool {
        false
    }
}

impl<T, E: Debug> Outcome for Result<T, E> {
    fn failed(&self) -> bool {
        self.is_err()
    }
}

/// Runs the body of a test. If it ends with an error, what it left is shown.
pub fn run<T: Outcome>(
    runtime: &tokio::runtime::Runtime,
    body: impl Future<Output = T>,
    show: impl FnMut(&Namespace<'static>),
) -> T {
    LEFT.set(Some(Vec::new()));
    let outcome = runtime.block_on(body);
    let left = LEFT.take().unwrap_or_default();
    if outcome.failed() {
        left.iter().for_each(show);
    }
    outcome
}

/// What the attribute names of tokio's.
pub mod runtime {
    use component_lease_testkit::control_plane::Namespace;

    use super::Outcome;

    pub struct Builder(tokio::runtime::Builder);

    impl Builder {
        pub fn new_current_thread() -> Self {
            Self(tokio::runtime::Builder::new_current_thread())
        }

        pub fn new_multi_thread() -> Self {
            Self(tokio::runtime::Builder::new_multi_thread())
        }

        pub fn worker_threads(&mut self, threads: usize) -> &mut Self {
            self.0.worker_threads(threads);
            self
        }

        pub fn enable_all(&mut self) -> &mut Self {
            self.0.enable_all();
            self
        }

        pub fn build(&mut self) -> std::io::Result<Runtime> {
            self.0.build().map(Runtime)
        }
    }

    pub struct Runtime(tokio::runtime::Runtime);

    impl Runtime {
        pub fn block_on<T: Outcome>(&self, body: impl Future<Output = T>) -> T {
            super::run(&self.0, body, Namespace::print)
        }
    }
}
