//! A DNS server over UDP and TCP (RFC 1035) that says in different ways that it knows no name, or
//! gives every name the address 127.0.0.1.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};

use anyhow::{Context, Result, bail};

/// The answer's flags: a response, recursion available.
const RESPONSE: u16 = 0x8180;
/// The answer is too long for UDP.
const TRUNCATED: u16 = 0x0200;
const TYPE_A: [u8; 2] = [0, 1];

/// What it answers to a query.
#[derive(Clone, Copy)]
enum Answer {
    /// These flags, no record.
    Flags(u16),
    /// These flags without the question, as servers may that do not understand it.
    Bare(u16),
    /// One A record; for other types none.
    Address,
    Nothing,
}

impl Answer {
    fn parse(mode: &str) -> Result<Self> {
        Ok(match mode {
            // No error, no address.
            "empty" => Self::Flags(0),
            "formerr" => Self::Bare(1),
            "servfail" => Self::Flags(2),
            "nxdomain" => Self::Flags(3),
            "notimp" => Self::Flags(4),
            "refused" => Self::Flags(5),
            "address" => Self::Address,
            "silence" | "closed" => Self::Nothing,
            other => bail!("no DNS mode {other}"),
        })
    }

    /// The query's id and question, and what is said to it.
    fn to(self, query: &[u8]) -> Option<Vec<u8>> {
        let name = query.get(12..)?.iter().position(|byte| *byte == 0)?;
        let question = query.get(12..12 + name + 5)?;
        let has_address = question[name + 1..name + 3] == TYPE_A;
        let (flags, asked, found) = match self {
            Self::Flags(flags) => (flags, question, false),
            Self::Bare(flags) => (flags, &[][..], false),
            Self::Address => (0, question, has_address),
            Self::Nothing => return None,
        };
        let mut answer = query[..2].to_vec();
        answer.extend((RESPONSE | flags).to_be_bytes());
        answer.extend([0, u8::from(!asked.is_empty()), 0, u8::from(found)]);
        answer.extend([0, 0, 0, 0]);
        answer.extend(asked);
        if found {
            // The question's name, A, IN, one second, four bytes.
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 1]);
        }
        Some(answer)
    }
}

/// `MODE`, or `MODE-over-tcp`: truncated over UDP; with `closed` nobody listens on TCP.
pub(crate) fn serve(address: &str, mode: &str) -> Result<()> {
    let tcp_only = mode.strip_suffix("-over-tcp");
    let tcp = Answer::parse(tcp_only.unwrap_or(mode))?;
    let udp = tcp_only.map_or(tcp, |_| Answer::Flags(TRUNCATED));
    let socket = UdpSocket::bind(address).with_context(|| format!("cannot bind {address}"))?;
    if tcp_only != Some("closed") {
        let listener = TcpListener::bind(address)?;
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || drop(over_tcp(stream, tcp)));
            }
        });
    }
    println!("ready");
    let mut query = [0u8; 512];
    loop {
        let (length, client) = socket.recv_from(&mut query)?;
        if let Some(answer) = udp.to(&query[..length]) {
            drop(socket.send_to(&answer, client));
        }
    }
}

fn over_tcp(mut stream: impl Read + Write, with: Answer) -> std::io::Result<()> {
    loop {
        let mut length = [0u8; 2];
        stream.read_exact(&mut length)?;
        let mut query = vec![0u8; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut query)?;
        if let Some(answer) = with.to(&query) {
            stream.write_all(&(answer.len() as u16).to_be_bytes())?;
            stream.write_all(&answer)?;
        }
    }
}
