//! What a netlink socket receives, whatever it is: the messages, and the sockets and routes in
//! them; and an answer of a DNS server.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer::internals::{read_dns_answer, read_netlink_answer};

fuzz_target!(|datagram: &[u8]| {
    read_netlink_answer(datagram);
    read_dns_answer(datagram);
});
