//! A program's file, whatever it is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer::internals::parse_binary;

fuzz_target!(|file: &[u8]| {
    let binary = parse_binary(file);
    let length = file.len() as u64;
    assert!(binary.version.is_none_or(|version| version.len() <= 64));
    for path in binary.prefix.iter().chain(&binary.conf) {
        assert!(
            path.as_os_str().len() <= 3 * file.len(),
            "more than there was"
        );
    }
    assert!(binary.requests < length.max(0x200) && binary.status < 4096);
});
