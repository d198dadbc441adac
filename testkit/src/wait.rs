//! Waiting for a condition with a deadline, in place of sleeping and hoping.

use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// Time between two looks: short against anything that is waited for, long enough not to
/// starve what is being waited for on a machine of two cores.
const STEP: Duration = Duration::from_millis(20);

/// Looks again and again until `probe` returns `Ok(Some(value))`.
///
/// An error of the probe counts as "not yet"; the last one is part of the message when the
/// time is up. The probe is given up in the middle of a look when `within` has passed.
///
/// # Errors
/// When `within` has passed: what was waited for, for how long, and the last error.
pub async fn until<T>(
    within: Duration,
    what: impl Display,
    probe: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    until_at(STEP, within, what, probe).await
}

/// [`until`] with a pause between two looks, where a look costs much.
///
/// # Errors
/// As [`until`].
pub async fn until_at<T>(
    pause: Duration,
    within: Duration,
    what: impl Display,
    mut probe: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = Instant::now();
    let mut last_error = None;
    let looking = async {
        loop {
            match probe().await {
                Ok(Some(value)) => return value,
                Ok(None) => last_error = None,
                Err(error) => last_error = Some(error),
            }
            tokio::time::sleep(pause).await;
        }
    };
    match tokio::time::timeout(within, looking).await {
        Ok(value) => Ok(value),
        Err(_) => {
            let waited = format!("gave up after {:.1?}: {what}", started.elapsed());
            Err(match last_error {
                Some(error) => error.context(waited),
                None => anyhow!(waited),
            })
        }
    }
}

/// [`until`] for a condition that is simply true or not.
///
/// # Errors
/// As [`until`].
pub async fn until_true(
    within: Duration,
    what: impl Display,
    mut probe: impl AsyncFnMut() -> bool,
) -> Result<()> {
    until(within, what, async || Ok(probe().await.then_some(()))).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn returns_the_value_of_the_first_look_that_has_one() {
        let mut looks = 0;
        let value = until(Duration::from_secs(5), "three looks", async || {
            looks += 1;
            Ok((looks == 3).then_some(looks))
        });
        assert_eq!(value.await.unwrap(), 3);
    }

    #[tokio::test]
    async fn says_what_it_waited_for_and_the_last_error() {
        let error =
            until::<()>(Duration::from_millis(50), "the moon", async || anyhow::bail!("too far away"));
        let text = format!("{:#}", error.await.unwrap_err());
        assert!(text.contains("the moon"), "{text}");
        assert!(text.contains("too far away"), "{text}");
    }

    #[tokio::test]
    async fn gives_up_on_a_look_that_never_ends() {
        let pending = until_true(Duration::from_millis(50), "nothing", async || std::future::pending().await);
        assert!(pending.await.is_err());
    }
}
