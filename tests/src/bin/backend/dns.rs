//! A DNS server over UDP and TCP that knows no name (RFC 1035), and says so in different ways.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};

use anyhow::{Context, Result, bail};

/// The answer's flags: a response, recursion available.
const RESPONSE: u16 = 0x8180;
const TRUNCATED: u16 = 0x0200;

pub(crate) fn serve(address: &str, mode: &str) -> Result<()> {
    let (udp, tcp) = match mode {
        "nxdomain" => (Some(3), Some(3)),
        "formerr" => (Some(1), Some(1)),
        "servfail" => (Some(2), Some(2)),
        "notimp" => (Some(4), Some(4)),
        "refused" => (Some(5), Some(5)),
        // No error, no address.
        "empty" => (Some(0), Some(0)),
        "silence" => (None, None),
        "nxdomain-over-tcp" => (Some(TRUNCATED), Some(3)),
        "servfail-over-tcp" => (Some(TRUNCATED), Some(2)),
        other => bail!("no DNS mode {other}"),
    };
    let socket = UdpSocket::bind(address).with_context(|| format!("cannot bind {address}"))?;
    let listener = TcpListener::bind(address)?;
    println!("ready");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || drop(over_tcp(stream, tcp)));
        }
    });
    let mut query = [0u8; 512];
    loop {
        let (length, client) = socket.recv_from(&mut query)?;
        if let Some(answer) = udp.and_then(|flags| answer(&query[..length], flags)) {
            drop(socket.send_to(&answer, client));
        }
    }
}

fn over_tcp(mut stream: impl Read + Write, flags: Option<u16>) -> std::io::Result<()> {
    loop {
        let mut length = [0u8; 2];
        stream.read_exact(&mut length)?;
        let mut query = vec![0u8; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut query)?;
        if let Some(answer) = flags.and_then(|flags| answer(&query, flags)) {
            stream.write_all(&(answer.len() as u16).to_be_bytes())?;
            stream.write_all(&answer)?;
        }
    }
}

/// The query's id and question with these flags; nothing else.
fn answer(query: &[u8], flags: u16) -> Option<Vec<u8>> {
    let name = query.get(12..)?.iter().position(|byte| *byte == 0)?;
    let question = query.get(12..12 + name + 5)?;
    let mut answer = query[..2].to_vec();
    answer.extend((RESPONSE | flags).to_be_bytes());
    answer.extend([0, 1, 0, 0, 0, 0, 0, 0]);
    answer.extend(question);
    Some(answer)
}
