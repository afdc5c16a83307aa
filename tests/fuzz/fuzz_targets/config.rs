//! A configuration file of nginx, whatever it is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer::nginx;

fuzz_target!(|text: &[u8]| nginx::read_configuration(text));
