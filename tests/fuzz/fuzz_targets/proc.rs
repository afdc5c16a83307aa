//! A file of `/proc` or `/etc`, whatever it is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer::{nginx, process, source::host};

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    process::read_proc(&text);
    nginx::read_fdinfo(&text);
    host::read_proc(&text);
});
