//! Waiting for a condition. Nothing in this crate sleeps for a guessed time: it asks again until the
//! answer is right, and a wait that ends without it says what it saw last.

use std::fmt::Display;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long to rest between two looks.
const REST: Duration = Duration::from_millis(200);

/// The condition did not come true in time.
#[derive(Debug, thiserror::Error)]
#[error("waited {seconds} s in vain for {what}; last seen: {last}")]
pub struct WaitError {
    /// What was waited for.
    pub what: String,
    /// For how long.
    pub seconds: u64,
    /// What the last look found instead.
    pub last: String,
}

/// Calls `look` until it returns `Ok`, for at most `timeout`; its error is what it found instead.
pub fn wait_for<T, E: Display>(
    what: &str,
    timeout: Duration,
    mut look: impl FnMut() -> Result<T, E>,
) -> Result<T, WaitError> {
    let end = Instant::now() + timeout;
    loop {
        match look() {
            Ok(found) => return Ok(found),
            Err(last) if Instant::now() >= end => {
                return Err(WaitError {
                    what: what.into(),
                    seconds: timeout.as_secs(),
                    last: last.to_string(),
                });
            }
            Err(_) => sleep(REST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_what_was_found() {
        let mut looks = 0;
        let found = wait_for("the third look", Duration::from_secs(5), || {
            looks += 1;
            if looks == 3 { Ok(looks) } else { Err("not yet") }
        });
        assert_eq!(found.unwrap(), 3);
    }

    #[test]
    fn says_what_was_seen_last() {
        let error = wait_for("a pod", Duration::ZERO, || Err::<(), _>("0 of 1 ready")).unwrap_err();
        assert_eq!(error.to_string(), "waited 0 s in vain for a pod; last seen: 0 of 1 ready");
    }
}
