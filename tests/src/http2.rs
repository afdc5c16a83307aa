//! As much of an HTTP/2 client as one GET needs (RFC 9113).
//!
//! The status is read from the header block without a HPACK decoder: nginx sends it first, either
//! indexed or as three plain digits.

use std::io::{Read, Write};

use anyhow::{Context, Result, bail};

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const STREAM: u32 = 1;

/// Sends one GET with prior knowledge and gives the status of the answer.
pub fn get(connection: &mut (impl Read + Write), host: &str, path: &str) -> Result<u16> {
    get_with(connection, host, path, &[])
}

/// The same with further headers; names in lower case.
pub fn get_with(
    connection: &mut (impl Read + Write),
    host: &str,
    path: &str,
    headers: &[(String, String)],
) -> Result<u16> {
    let mut request = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    request.extend(frame(SETTINGS, 0, 0, &[]));
    // :method GET and :scheme http are entries 2 and 6 of the static table; :path and :authority
    // are sent as literals under the names of entries 4 and 1.
    let mut block = vec![0x82, 0x86];
    for (name, value) in [(0x04, path), (0x01, host)] {
        block.extend([name, value.len() as u8]);
        block.extend(value.bytes());
    }
    for (name, value) in headers {
        // A literal with a new name.
        block.extend([0, name.len() as u8]);
        block.extend(name.bytes());
        block.push(value.len() as u8);
        block.extend(value.bytes());
    }
    // END_STREAM | END_HEADERS
    request.extend(frame(HEADERS, 0x05, STREAM, &block));
    connection.write_all(&request)?;
    connection.flush()?;
    loop {
        let mut head = [0u8; 9];
        connection
            .read_exact(&mut head)
            .context("no HTTP/2 frame came")?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0u8; length];
        connection.read_exact(&mut payload)?;
        match head[3] {
            HEADERS => return status(&payload),
            GOAWAY => bail!("the server ended the HTTP/2 connection"),
            _ => {}
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn status(block: &[u8]) -> Result<u16> {
    // A dynamic table size update may come first (001xxxxx).
    let block = match block.first() {
        Some(first) if first & 0xe0 == 0x20 => &block[1..],
        _ => block,
    };
    match *block {
        [indexed @ 0x88..=0x8e, ..] => {
            Ok([200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)])
        }
        [0x08 | 0x48, 3, a, b, c, ..] => Ok(std::str::from_utf8(&[a, b, c])?.parse()?),
        _ => bail!("a header block without a status in front: {block:02x?}"),
    }
}
