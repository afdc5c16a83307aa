//! A program that calls itself nginx, has functions of nginx's names, and calls them with objects
//! that lie: members lead nowhere, everywhere, and to each other. `liar master` has a worker do so
//! until its standard input ends.

use std::hint::black_box;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

/// What nginx's binary says of itself.
static CONSTANTS: &[u8] =
    b"nginx version: nginx/1.22.1\n\0configure arguments: --prefix=/usr/share/nginx --with-compat\0";
/// `NGX_HTTP_MODULE`, `NGX_STREAM_MODULE`
const SIGNATURES: [u64; 2] = [0x5054_5448, 0x4d52_5453];
const OBJECTS: usize = 64;
/// Words of one: longer than any of nginx's that is read.
const WORDS: usize = 64;
const FORMATS: [&[u8]; 5] = [
    b"connect() to %V failed\0",
    b"connect() failed\0",
    b"no live upstreams while connecting to upstream\0",
    b"%V could not be resolved (%i: %s)\0",
    b"socket() failed\0",
];

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ngx_http_special_response_handler(request: u64, status: u64) -> u64 {
    black_box(request ^ status)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ngx_log_error_core(
    level: u64,
    log: u64,
    errno: u64,
    format: u64,
    one: u64,
    two: u64,
) -> u64 {
    black_box(level ^ log ^ errno ^ format ^ one ^ two)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ngx_event_connect_peer(peer: u64) -> u64 {
    ngx_close_connection(peer);
    black_box(peer)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ngx_close_connection(connection: u64) -> u64 {
    black_box(connection)
}

/// xorshift64*: the same lies each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap_or(0)
    }
}

/// A word that a member might hold.
fn word(random: &mut Random, begin: u64) -> u64 {
    let object = begin + 8 * (WORDS * random.below(OBJECTS)) as u64;
    match random.below(12) {
        0 => 0,
        1 => SIGNATURES[random.below(2)],
        2 => random.next(),
        // The kernel's, and beyond every address.
        3 => 0xffff_8880_0000_0000 | random.next() >> 24,
        4 => u64::MAX - 7,
        5 => object + 16,
        // Of very few: several members are the same then.
        6..=8 => begin + 8 * (WORDS * random.below(3)) as u64,
        _ => object,
    }
}

fn lie() {
    let mut objects = vec![0u64; OBJECTS * WORDS];
    let begin = objects.as_ptr() as u64;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    loop {
        for _ in 0..20 {
            for held in &mut objects {
                *held = word(&mut random, begin);
            }
            // Many begin as a request or a session does, and have a connection that has a log.
            for object in objects.as_chunks_mut::<WORDS>().0.iter_mut().step_by(2) {
                object[0] = SIGNATURES[random.below(2)];
            }
            black_box(&mut objects);
            for object in (0..OBJECTS).step_by(2) {
                let object = begin + 8 * (WORDS * object) as u64;
                let status = [500, 502, 504][random.below(3)];
                ngx_http_special_response_handler(object, status);
                let log = word(&mut random, begin);
                let format = FORMATS[random.below(FORMATS.len())].as_ptr() as u64;
                let (one, two) = (word(&mut random, begin), random.next() % 5000);
                ngx_log_error_core(4, log, 111, format, one, two);
                ngx_event_connect_peer(word(&mut random, begin));
                ngx_close_connection(object);
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn main() -> ExitCode {
    black_box(CONSTANTS);
    if std::env::args().nth(1).as_deref() != Some("master") {
        lie();
    }
    let Ok(own) = std::env::current_exe() else {
        return ExitCode::FAILURE;
    };
    let worker = Command::new(own)
        .arg0("nginx: worker process")
        .stdin(Stdio::null())
        .spawn();
    let Ok(mut worker) = worker else {
        return ExitCode::FAILURE;
    };
    // It ends with whoever started it.
    let _ = std::io::stdin().read(&mut [0]);
    let _ = worker.kill();
    let _ = worker.wait();
    ExitCode::SUCCESS
}
