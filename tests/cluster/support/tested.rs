//! How a test ends. An error ends it as a panic does, where it happened: what is alive there, above all a
//! [`Site`](super::Site), is dropped by a thread that panics, and prints what is in its namespace.

/// What a test returns, and a helper that makes a site of its own.
pub type Tested<T = ()> = Result<T, Failed>;

/// Never made: `?` panics instead.
#[derive(Debug)]
pub struct Failed;

impl<E: Into<anyhow::Error>> From<E> for Failed {
    #[track_caller]
    fn from(error: E) -> Self {
        panic!("{:?}", error.into())
    }
}

/// As that of `anyhow`, for tests and for helpers that return its errors.
macro_rules! ensure {
    ($holds:expr $(,)?) => {
        $crate::support::ensure!($holds, "it does not hold that {}", stringify!($holds))
    };
    ($holds:expr, $($why:tt)+) => {
        if !$holds {
            return Err(anyhow::anyhow!($($why)+).into());
        }
    };
}
pub(crate) use ensure;

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    struct Alive<'a>(&'a AtomicBool);

    impl Drop for Alive<'_> {
        fn drop(&mut self) {
            self.0.store(std::thread::panicking(), Ordering::Relaxed);
        }
    }

    #[test]
    fn what_is_alive_when_a_test_fails_is_dropped_by_a_panic_and_nothing_is_when_it_passes() {
        let dies = |how: fn() -> anyhow::Result<u8>, wanted: u8| {
            let printed = AtomicBool::new(false);
            let test = || -> Tested {
                let _alive = Alive(&printed);
                let got = how()?;
                ensure!(got == wanted, "{got} is not {wanted}");
                Ok(())
            };
            let ended = catch_unwind(AssertUnwindSafe(test));
            (ended.is_err(), printed.load(Ordering::Relaxed))
        };
        assert_eq!(dies(|| Ok(1), 1), (false, false));
        assert_eq!(dies(|| Ok(1), 2), (true, true));
        assert_eq!(dies(|| Err(anyhow::anyhow!("no")), 1), (true, true));
    }
}
