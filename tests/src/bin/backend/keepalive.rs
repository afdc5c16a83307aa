//! HTTP or FastCGI with kept-alive connections, each a thread, closed when idle for long enough, or
//! at the word `close` (by FIN) or `reset` (by RST) on stdin; each connection closed by a word
//! prints `closed`.
//!
//! The header `X-Served` of an answer counts the requests of its connection.

use std::fs::File;
use std::io::{BufRead, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::listener::{Listener, request, reset};
use crate::protocol::answer;

/// How often each word was said.
static CLOSE: AtomicU32 = AtomicU32::new(0);
static RESET: AtomicU32 = AtomicU32::new(0);

pub(crate) fn serve(listener: &Listener, idle: Duration) -> Result<()> {
    println!("ready");
    std::thread::spawn(|| {
        for word in std::io::stdin().lock().lines().map_while(Result::ok) {
            match word.as_str() {
                "close" => CLOSE.fetch_add(1, Ordering::Relaxed),
                "reset" => RESET.fetch_add(1, Ordering::Relaxed),
                _ => 0,
            };
        }
    });
    loop {
        let stream = listener.accept()?;
        std::thread::spawn(move || converse(stream, idle));
    }
}

fn converse(mut stream: File, idle: Duration) {
    let (close, resets) = (CLOSE.load(Ordering::Relaxed), RESET.load(Ordering::Relaxed));
    for served in 1.. {
        let end = Instant::now() + idle;
        loop {
            if wait(&stream, end) {
                break;
            }
            if CLOSE.load(Ordering::Relaxed) != close {
                drop(stream);
                println!("closed");
                return;
            }
            if RESET.load(Ordering::Relaxed) != resets {
                reset(stream);
                println!("closed");
                return;
            }
            if Instant::now() >= end {
                return;
            }
        }
        let Some(request) = request(&mut stream) else {
            return;
        };
        let answer = answer(&request, &format!("X-Served: {served}\r\n"));
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

/// Whether there is something to read before `end`, or within a millisecond.
fn wait(stream: &File, end: Instant) -> bool {
    let left = end.saturating_duration_since(Instant::now());
    let pause = left.min(Duration::from_millis(1));
    let pause = Timespec::try_from(pause).unwrap_or_default();
    let mut polled = [PollFd::new(stream, PollFlags::IN)];
    poll(&mut polled, Some(&pause)).is_ok_and(|ready| ready > 0)
}
