//! What a backend does to a connection. Writes to a client that has gone are no failure.

use std::fs::File;
use std::io::{Read, Write};

use anyhow::{Result, bail};

use crate::listener::{readable, request, reset};

/// A way to serve; a text is raw bytes, `\0` in it a NUL, `\xHH` any byte.
#[derive(Clone)]
pub(crate) enum Mode {
    /// Reads the request, sends the text, closes by FIN.
    Answer(Vec<u8>),
    /// Reads the request, sends the text, closes by RST.
    Reset(Vec<u8>),
    /// Reads the request, sends the text, prints `serving PID`, is silent until the client goes,
    /// and prints `left`.
    Hold(Vec<u8>),
    /// Reads whatever comes first, sends the text, closes by FIN.
    Hello(Vec<u8>),
    /// Reads whatever comes first, sends the text, is silent until the client goes.
    HelloHold(Vec<u8>),
    /// Reads whatever comes first, closes by RST.
    HelloReset,
    /// Closes as soon as there is something to read, without reading it.
    Unread,
    /// Reads whatever comes first and no more, and waits.
    StopReading,
    /// Accepts, reads nothing and waits.
    Accept,
    /// Closes at once.
    Close,
    /// Reads the request and exits with 1.
    Exit,
    /// Reads the request and aborts.
    Abort,
    /// Reads the request and makes a segmentation fault.
    Segv,
    /// Reads the request, prints `serving PID` and waits to be killed.
    Wait,
    /// Reads the request and eats memory until the kernel says no.
    Hog,
    /// Listens and never accepts.
    NeverAccept,
}

impl Mode {
    pub(crate) fn parse(mode: &str, text: &str) -> Result<Self> {
        let text = bytes(text);
        Ok(match mode {
            "answer" => Self::Answer(text),
            "reset" => Self::Reset(text),
            "hold" => Self::Hold(text),
            "hello" => Self::Hello(text),
            "hello-hold" => Self::HelloHold(text),
            "hello-reset" => Self::HelloReset,
            "unread" => Self::Unread,
            "stop-reading" => Self::StopReading,
            "accept" => Self::Accept,
            "close" => Self::Close,
            "exit" => Self::Exit,
            "abort" => Self::Abort,
            "segv" => Self::Segv,
            "wait" => Self::Wait,
            "hog" => Self::Hog,
            "never-accept" => Self::NeverAccept,
            other => bail!("no mode {other}"),
        })
    }

    pub(crate) fn conduct(&self, mut stream: File) {
        match self {
            Self::Close | Self::NeverAccept => return,
            Self::Accept => sleep_forever(),
            Self::Unread => {
                readable(&stream, -1);
                return;
            }
            Self::Hello(text) => {
                let read = stream.read(&mut [0u8; 4096]);
                if read.is_ok() {
                    drop(stream.write_all(text));
                }
                return;
            }
            Self::HelloHold(text) => {
                let read = stream.read(&mut [0u8; 4096]);
                if read.is_ok() && stream.write_all(text).is_ok() {
                    while matches!(stream.read(&mut [0u8; 64]), Ok(1..)) {}
                }
                return;
            }
            Self::StopReading => {
                if stream.read(&mut [0u8; 4096]).is_ok() {
                    sleep_forever();
                }
                return;
            }
            Self::HelloReset => {
                let read = stream.read(&mut [0u8; 4096]);
                if read.is_ok() {
                    reset(stream);
                }
                return;
            }
            _ => {}
        }
        if request(&mut stream).is_none() {
            return;
        }
        match self {
            Self::Answer(text) => drop(stream.write_all(text)),
            Self::Reset(text) => {
                drop(stream.write_all(text));
                reset(stream);
            }
            Self::Hold(text) => {
                drop(stream.write_all(text));
                println!("serving {}", std::process::id());
                // Until the client's end.
                while matches!(stream.read(&mut [0u8; 64]), Ok(1..)) {}
                println!("left");
            }
            Self::Exit => std::process::exit(1),
            Self::Abort => std::process::abort(),
            Self::Segv => segmentation_fault(),
            Self::Wait => {
                println!("serving {}", std::process::id());
                sleep_forever();
            }
            Self::Hog => eat(),
            _ => {}
        }
    }
}

fn bytes(text: &str) -> Vec<u8> {
    let text = text.replace("\\0", "\0");
    let mut parts = text.split("\\x");
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        bytes.extend(u8::from_str_radix(digits, 16));
        bytes.extend(rest.bytes());
    }
    bytes
}

/// Until a signal ends the process.
pub(crate) fn sleep_forever() -> ! {
    loop {
        std::thread::park();
    }
}

fn segmentation_fault() {
    // SAFETY: none is meant: a page that may not be touched is mapped and touched.
    unsafe {
        let page = libc::mmap(
            std::ptr::null_mut(),
            4096,
            libc::PROT_NONE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        page.cast::<u8>().write_volatile(1);
    }
}

/// Half a gigabyte: should no limit stop it, it ends by itself.
fn eat() {
    let mut eaten = Vec::new();
    for _ in 0..512 {
        eaten.push(vec![1u8; 1 << 20]);
    }
    std::process::exit(3);
}
