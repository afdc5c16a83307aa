//! A file of `/proc` or `/etc`, whatever it is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer::internals::{read_fdinfo, read_host_files, read_name_files, read_process_files};

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    read_process_files(&text);
    read_fdinfo(&text);
    read_host_files(&text);
    read_name_files(&text);
});
