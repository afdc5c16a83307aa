//! A line of an error log, whatever it is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer::internals::{Time, message_of_pasted, parse_log_line};

fuzz_target!(|line: &[u8]| {
    if let Some(parsed) = parse_log_line(line, Time(0)) {
        assert!(
            parsed.message.len() <= 3 * line.len(),
            "more than there was"
        );
    }
    // The same as somebody pastes it.
    assert!(message_of_pasted(line) <= 3 * line.len(), "more than there was");
});
