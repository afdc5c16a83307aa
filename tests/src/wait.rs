//! Waiting for a condition, never for a time.
//!
//! The only pause in this crate is the 2 ms between two questions here.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Long enough for a loaded machine that is itself emulated, short enough that a hang is noticed.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// Asks until `ask` gives `Some`, at most for `limit`; `what` names the condition in the error.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = ask()? {
            return Ok(found);
        }
        if Instant::now() >= end {
            bail!("waited {limit:?} in vain for {what}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
