//! A panic is a fault of tracer's own: one line on stderr, no backtrace, and a failed run where it
//! is the event loop's.

use std::{
    collections::BTreeSet,
    fmt,
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    sync::{Mutex, PoisonError},
};

use anyhow::Result;

use crate::say;

/// Places that were reported: one that hostile bytes reach again and again is reported once.
static REPORTED: Mutex<BTreeSet<(String, u32)>> = Mutex::new(BTreeSet::new());
/// Places reported at most.
const PLACES: usize = 16;

/// Has every panic of this process reported so; a place at most once.
pub fn report_faults() {
    panic::set_hook(Box::new(|panic| {
        super::screen::before_a_fault();
        if is_new(panic) {
            // Without stderr there is nobody to report it to.
            say::line(&line(panic));
        }
    }));
}

fn is_new(panic: &PanicHookInfo<'_>) -> bool {
    let mut reported = REPORTED.lock().unwrap_or_else(PoisonError::into_inner);
    let place = panic.location().map_or((String::new(), 0), |location| {
        (location.file().to_owned(), location.line())
    });
    reported.len() < PLACES && reported.insert(place)
}

fn line(panic: &PanicHookInfo<'_>) -> String {
    let place = panic.location().map_or_else(String::new, |location| {
        format!(" at {}:{}", location.file(), location.line())
    });
    let message = panic.payload_as_str().unwrap_or("no message");
    format!("tracer: a fault of its own{place}: {message}; please report it")
}

/// A panic ended the run; it was reported when it happened.
#[derive(Debug)]
pub(super) struct Fault;

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a fault of tracer's own")
    }
}

impl std::error::Error for Fault {}

/// Runs `work`; a panic in it is an error. What `work` holds is dropped: a capture is flushed.
pub(super) fn caught(work: impl FnOnce() -> Result<()>) -> Result<()> {
    panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(Fault.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Exit;

    #[test]
    fn a_panic_is_a_failure_that_was_reported() {
        let error = caught(|| panic!("a test's own")).unwrap_err();
        assert_eq!(Exit::of(&error), Exit::Reported);
        assert!(caught(|| Ok(())).is_ok());
    }

    /// Set for the process that panics.
    const CHILD: &str = "TRACER_TEST_PANICS";

    #[test]
    fn a_panic_is_reported_in_one_clean_line_once_for_each_place() {
        if std::env::var_os(CHILD).is_some() {
            report_faults();
            for number in 0..3 {
                let hostile = caught(|| panic!("\x1b[31mhostile\nbytes {number}"));
                assert!(hostile.is_err());
            }
            return;
        }
        let test = "cli::fault::tests::a_panic_is_reported_in_one_clean_line_once_for_each_place";
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture"])
            .env(CHILD, "1")
            .env("RUST_BACKTRACE", "1")
            .output()
            .unwrap();
        let said = String::from_utf8(child.stderr).unwrap();
        let place = format!("tracer: a fault of its own at {}:", file!());
        assert!(said.starts_with(&place), "{said}");
        let message = "\\x1b[31mhostile\\x0abytes 0; please report it\n";
        assert!(said.ends_with(message), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}
