//! What a netlink socket receives, whatever it is: the messages, and the sockets and routes in
//! them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer::source::host;

fuzz_target!(|datagram: &[u8]| host::read_answer(datagram));
