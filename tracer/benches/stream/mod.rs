//! Records as the kernel side writes them: healthy connections, a new one for each request.

use tracer::internals::{CaptureHeader, Clock};
use tracer_ebpf::abi::{CONNECTION, Connection, Endpoint, Header};

/// The worker that all of them belong to.
const WORKER: u32 = 1234;
/// Nanoseconds from one to the next: ten thousand a second.
pub(crate) const STEP: u64 = 100_000;
/// Boot and wall time are the same.
pub(crate) const CLOCK: Clock = Clock { boot: 0, wall: 0 };

/// The record of the connection with this number.
pub(crate) fn record(number: u64) -> Vec<u8> {
    let start = 1_000_000_000 + number * STEP;
    let mut address = [0; 16];
    address[10..].copy_from_slice(&[0xff, 0xff, 127, 0, 0, 1]);
    let end = |port| Endpoint { address, port };
    let record = Connection {
        header: Header {
            tag: CONNECTION,
            len: size_of::<Connection>() as u16,
            pid: WORKER,
            at: start + 900_000,
        },
        socket: 0xffff_8880_0000_0000 + (number % 64) * 2368,
        peer: 0x5555_0000_1000 + (number % 32) * 4096,
        request: start,
        start,
        established: start + 30_000,
        first_byte: start + 700_000,
        last_sent: start + 40_000,
        last_received: start + 700_000,
        first_sent: b'G',
        first_received: b'H',
        bytes_received: 150 + number % 7,
        bytes_sent: 90,
        response: 150 + (number % 7) as u32,
        status: 200,
        state: 1,
        netns: 4_026_531_840,
        local: end(1024 + (number % 60_000) as u16),
        remote: end(8000),
        ..Connection::UNKNOWN
    };
    // SAFETY: repr(C) of integers whose padding is explicit (asserted in tracer-ebpf): all bytes
    // are initialised.
    let bytes = unsafe {
        std::slice::from_raw_parts((&raw const record).cast::<u8>(), size_of::<Connection>())
    };
    bytes.to_vec()
}

/// The header of a capture of them.
pub(crate) fn header() -> CaptureHeader {
    CaptureHeader {
        run: "bench".to_owned(),
        part: 0,
        clock: CLOCK,
        utc_offset: 0,
        host: String::new(),
        boot_id: String::new(),
        kernel: Default::default(),
        nginx: Vec::new(),
        hooks: Default::default(),
        tracer: String::new(),
        command: Vec::new(),
        anonymized: false,
    }
}
