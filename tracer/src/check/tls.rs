//! The first flight of a TLS handshake (RFC 8446, RFC 5246): enough to tell a port that speaks TLS
//! from one that does not, and to name the alert of one that refuses. Certificates are not
//! verified: TLS 1.3 encrypts them.

use std::io::{self, Read, Write};

use crate::process;

/// What a handshake is made with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Tls {
    /// The name that is sent (SNI).
    pub(crate) name: Option<String>,
    /// Is TLS 1.2 offered?
    pub(crate) has_12: bool,
    /// Is TLS 1.3?
    pub(crate) has_13: bool,
    /// HTTP/2 is offered (ALPN), as nginx does for gRPC.
    pub(crate) is_h2: bool,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// It chose a version and a cipher.
    Hello,
    /// It refused, with this alert.
    Alert(u8),
    /// It speaks another protocol: how its answer begins.
    Other(Vec<u8>),
    /// It closed the connection.
    Closed,
}

const HANDSHAKE: u8 = 22;
const ALERT: u8 = 21;
const FATAL: u8 = 2;
/// Warnings read before what counts.
const RECORDS: usize = 4;
/// Bytes of a record's header.
const RECORD: usize = 5;
/// ECDHE, DHE and RSA with AES-GCM, ChaCha20, AES-CCM and AES-CBC: what servers of TLS 1.2 have.
const CIPHERS_12: [u16; 30] = [
    0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xccaa, 0xc0ac, 0xc0ad, 0xc023, 0xc027, 0xc024,
    0xc028, 0xc009, 0xc013, 0xc00a, 0xc014, 0x009e, 0x009f, 0x0067, 0x006b, 0x0033, 0x0039, 0x009c,
    0x009d, 0x003c, 0x003d, 0x002f, 0x0035, 0xc09c,
];
/// x25519, P-256, P-384, P-521, x448, X25519MLKEM768, and finite fields: of one without a share the
/// server asks for one, which is an answer.
const GROUPS: [u16; 8] = [29, 23, 24, 25, 30, 0x11ec, 0x0100, 0x0101];
/// ECDSA, EdDSA, RSA-PSS and RSA, with SHA-2 and, last, SHA-1.
const ALGORITHMS: [u16; 16] = [
    0x0403, 0x0503, 0x0603, 0x0807, 0x0808, 0x0804, 0x0805, 0x0806, 0x0809, 0x080a, 0x080b, 0x0401,
    0x0501, 0x0601, 0x0203, 0x0201,
];
/// `TLS_EMPTY_RENEGOTIATION_INFO_SCSV`
const RENEGOTIATION: u16 = 0x00ff;

/// Sends a ClientHello and reads what comes first.
///
/// # Errors
/// Those of the stream: a reset, `WouldBlock` at its timeout.
pub(crate) fn probe(stream: &mut (impl Read + Write), tls: &Tls) -> io::Result<Reply> {
    // Older versions are not spoken here, nor is what only a request has.
    if !tls.has_12 && !tls.has_13 {
        return Ok(Reply::Hello);
    }
    stream.write_all(&hello(tls, process::random()))?;
    for _ in 0..RECORDS {
        let mut header = [0; RECORD];
        let got = fill(stream, &mut header)?;
        if got == 0 {
            return Ok(Reply::Closed);
        }
        let is_record = matches!(header[0], HANDSHAKE | ALERT) && (got < 2 || header[1] == 3);
        if !is_record {
            return Ok(Reply::Other(header[..got].to_vec()));
        }
        if got < RECORD {
            return Ok(Reply::Closed);
        }
        if header[0] == HANDSHAKE {
            return Ok(Reply::Hello);
        }
        let mut alert = [0; 2];
        if fill(stream, &mut alert)? < 2 {
            return Ok(Reply::Closed);
        }
        if alert[0] == FATAL {
            return Ok(Reply::Alert(alert[1]));
        }
    }
    Ok(Reply::Closed)
}

/// As much as comes before the end.
fn fill(stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match stream.read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(read) => got += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

fn hello(tls: &Tls, random: [u8; 96]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend(&random[..32]);
    body.push(32);
    body.extend(&random[32..64]);
    let mut ciphers: Vec<u16> = Vec::new();
    if tls.has_13 {
        ciphers.extend([0x1301, 0x1302, 0x1303]);
    }
    if tls.has_12 {
        ciphers.extend(CIPHERS_12);
    }
    ciphers.push(RENEGOTIATION);
    body.extend(vector(&numbers(&ciphers)));
    body.extend([1, 0]);
    let mut extensions = Vec::new();
    let mut add = |kind: u16, value: Vec<u8>| {
        extensions.extend(kind.to_be_bytes());
        extensions.extend(vector(&value));
    };
    if let Some(name) = &tls.name {
        let entry = [vec![0], vector(name.as_bytes())].concat();
        add(0, vector(&entry));
    }
    if tls.is_h2 {
        add(16, vector(b"\x02h2"));
    }
    // Point formats, groups, signature algorithms, extended master secret.
    add(11, vec![1, 0]);
    add(10, vector(&numbers(&GROUPS)));
    add(13, vector(&numbers(&ALGORITHMS)));
    add(23, Vec::new());
    if tls.has_13 {
        // Versions, key exchange modes, a key share: any 32 bytes are one of x25519.
        let versions: &[u8] = match tls.has_12 {
            true => &[4, 3, 4, 3, 3],
            false => &[2, 3, 4],
        };
        add(43, versions.to_vec());
        add(45, vec![1, 1]);
        let share = [numbers(&[29]), vector(&random[64..])].concat();
        add(51, vector(&share));
    }
    body.extend(vector(&extensions));
    let length = (body.len() as u32).to_be_bytes();
    let message = [&[1], &length[1..], &body].concat();
    [vec![HANDSHAKE, 3, 1], vector(&message)].concat()
}

fn numbers(numbers: &[u16]) -> Vec<u8> {
    numbers
        .iter()
        .flat_map(|number| number.to_be_bytes())
        .collect()
}

/// With its length before it.
fn vector(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

/// An alert's name (RFC 8446, section 6).
pub(crate) fn alert(code: u8) -> String {
    let name = match code {
        10 => "unexpected_message",
        40 => "handshake_failure",
        42 => "bad_certificate",
        47 => "illegal_parameter",
        50 => "decode_error",
        70 => "protocol_version",
        71 => "insufficient_security",
        80 => "internal_error",
        86 => "inappropriate_fallback",
        109 => "missing_extension",
        112 => "unrecognized_name",
        116 => "certificate_required",
        120 => "no_application_protocol",
        code => return format!("alert {code}"),
    };
    format!("alert {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Stream {
        sent: Vec<u8>,
        comes: io::Cursor<Vec<u8>>,
    }

    impl Read for Stream {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.comes.read(buffer)
        }
    }

    impl Write for Stream {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.sent.extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn reply(comes: &[u8]) -> Reply {
        let mut stream = Stream {
            sent: Vec::new(),
            comes: io::Cursor::new(comes.to_vec()),
        };
        let tls = Tls {
            name: Some("a.test".to_owned()),
            has_12: true,
            has_13: true,
            is_h2: true,
        };
        let reply = probe(&mut stream, &tls).unwrap();
        // The record's length and the message's fit what was sent.
        let length = stream.sent.len();
        let number =
            |at: usize| usize::from(stream.sent[at]) << 8 | usize::from(stream.sent[at + 1]);
        assert_eq!((number(3), number(7)), (length - 5, length - 9));
        reply
    }

    #[test]
    fn what_comes_first_says_what_is_spoken() {
        assert_eq!(reply(&[22, 3, 3, 0, 9, 2]), Reply::Hello);
        assert_eq!(reply(&[21, 3, 3, 0, 2, 2, 40]), Reply::Alert(40));
        let warned = [21, 3, 3, 0, 2, 1, 112, 22, 3, 3, 0, 9];
        assert_eq!(reply(&warned), Reply::Hello);
        assert_eq!(reply(b"HTTP/1.1 400"), Reply::Other(b"HTTP/".to_vec()));
        assert_eq!(reply(b"-E"), Reply::Other(b"-E".to_vec()));
        assert_eq!(reply(b""), Reply::Closed);
        assert_eq!(reply(&[21, 3, 3]), Reply::Closed);
        assert_eq!(alert(70), "alert protocol_version");
    }
}
