//! A configuration file of nginx, whatever it is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer::internals::read_configuration;

fuzz_target!(|text: &[u8]| read_configuration(text));
