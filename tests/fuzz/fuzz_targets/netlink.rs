//! What a netlink socket receives, whatever it is: the messages, and the sockets and routes in
//! them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer::internals::read_netlink_answer;

fuzz_target!(|datagram: &[u8]| read_netlink_answer(datagram));
