//! A DNS query over UDP, and over TCP where the answer is too long (RFC 1035).

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use crate::process;

/// Which addresses are queried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    fn kind(self) -> u16 {
        match self {
            Self::V4 => 1,
            Self::V6 => 28,
        }
    }
}

/// What a server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// These addresses; none: the name is there without one.
    Addresses(Vec<IpAddr>),
    /// This response code, other than 0.
    Code(u8),
}

/// A packet's most bytes.
const LONGEST: usize = 4096;
/// Records looked at.
const RECORDS: u16 = 256;
const HEADER: usize = 12;
const TRUNCATED: u8 = 2;
/// Response codes of a server that cannot say: others are asked then.
pub(super) const SERVFAIL: u8 = 2;
pub(super) const NOTIMP: u8 = 4;
pub(super) const REFUSED: u8 = 5;

/// Asks one server, again after a third of the time.
///
/// # Errors
/// `TimedOut` where it does not answer, `ConnectionRefused` where nobody is there.
pub(super) fn ask(
    server: SocketAddr,
    name: &str,
    family: Family,
    patience: Duration,
) -> io::Result<Answer> {
    let id = process::random_number() as u16;
    let query = query(id, name, family).ok_or(io::ErrorKind::InvalidInput)?;
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    let end = Instant::now() + patience;
    let mut buffer = [0; LONGEST];
    for part in 1..=3 {
        socket.send(&query)?;
        let until = end - patience * (3 - part) / 3;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            let got = match socket.recv(&mut buffer) {
                Ok(got) => got,
                Err(error) if is_timeout(&error) => break,
                Err(error) => return Err(error),
            };
            let answer = &buffer[..got];
            if !is_answer(answer, id) {
                continue;
            }
            if answer[2] & TRUNCATED != 0 {
                return over_tcp(server, &query, id, family, patience);
            }
            return parse(answer, family).ok_or_else(|| io::ErrorKind::InvalidData.into());
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

fn over_tcp(
    server: SocketAddr,
    query: &[u8],
    id: u16,
    family: Family,
    patience: Duration,
) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&server, patience)?;
    stream.set_read_timeout(Some(patience))?;
    let length = (query.len() as u16).to_be_bytes();
    stream.write_all(&[&length[..], query].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer)?;
    let answer = is_answer(&answer, id).then(|| parse(&answer, family));
    answer
        .flatten()
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

fn query(id: u16, name: &str, family: Family) -> Option<Vec<u8>> {
    let mut query = id.to_be_bytes().to_vec();
    // Recursion desired; one question.
    query.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    let name = name.trim_end_matches('.');
    (name.len() < 254).then_some(())?;
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok();
        query.push(length.filter(|length| (1..64).contains(length))?);
        query.extend(label.as_bytes());
    }
    query.push(0);
    query.extend(family.kind().to_be_bytes());
    query.extend([0, 1]);
    Some(query)
}

fn is_answer(packet: &[u8], id: u16) -> bool {
    packet.len() >= HEADER && packet[..2] == id.to_be_bytes() && packet[2] & 0x80 != 0
}

/// What an answer says; `None` if it is cut or malformed.
fn parse(packet: &[u8], family: Family) -> Option<Answer> {
    let number = |at: usize| Some(u16::from_be_bytes(*packet.get(at..)?.first_chunk()?));
    let code = packet.get(3)? & 0xf;
    if code != 0 {
        return Some(Answer::Code(code));
    }
    let (questions, answers) = (number(4)?, number(6)?);
    let mut at = HEADER;
    for _ in 0..questions.min(RECORDS) {
        at = after_name(packet, at)? + 4;
    }
    let mut found = Vec::new();
    for _ in 0..answers.min(RECORDS) {
        at = after_name(packet, at)?;
        let (kind, length) = (number(at)?, usize::from(number(at + 8)?));
        let data = packet.get(at + 10..at + 10 + length)?;
        if kind == family.kind() {
            found.push(match family {
                Family::V4 => IpAddr::from(<[u8; 4]>::try_from(data).ok()?),
                Family::V6 => IpAddr::from(<[u8; 16]>::try_from(data).ok()?),
            });
        }
        at += 10 + length;
    }
    Some(Answer::Addresses(found))
}

/// Where a name ends: with an empty label or a pointer.
fn after_name(packet: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *packet.get(at)? {
            0 => return Some(at + 1),
            length if length >= 0xc0 => return Some(at + 2),
            length if length < 64 => at += 1 + usize::from(length),
            _ => return None,
        }
    }
}

/// A response code's name.
pub(super) fn code(code: u8) -> String {
    match code {
        1 => "FORMERR".to_owned(),
        SERVFAIL => "SERVFAIL".to_owned(),
        3 => "NXDOMAIN".to_owned(),
        NOTIMP => "NOTIMP".to_owned(),
        REFUSED => "REFUSED".to_owned(),
        code => format!("response code {code}"),
    }
}

/// For the fuzz targets: reads an answer, whatever it is.
pub fn read_answer(packet: &[u8]) {
    for family in [Family::V4, Family::V6] {
        if is_answer(packet, 0) {
            let _ = parse(packet, family);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(records: &[&[u8]]) -> Vec<u8> {
        let mut packet = query(7, "a.test", Family::V4).unwrap();
        packet[2] |= 0x80;
        packet[7] = records.len() as u8;
        for record in records {
            packet.extend([0xc0, 12]);
            packet.extend(*record);
        }
        packet
    }

    #[test]
    fn addresses_are_found_behind_aliases() {
        let alias: &[u8] = &[0, 5, 0, 1, 0, 0, 0, 9, 0, 2, 0xc0, 12];
        let address: &[u8] = &[0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 10, 0, 0, 7];
        let packet = answer(&[alias, address]);
        assert!(is_answer(&packet, 7) && !is_answer(&packet, 8));
        let found = vec!["10.0.0.7".parse().unwrap()];
        assert_eq!(parse(&packet, Family::V4), Some(Answer::Addresses(found)));
        assert_eq!(parse(&packet, Family::V6), Some(Answer::Addresses(vec![])));
        assert_eq!(parse(&packet[..packet.len() - 1], Family::V4), None);
    }

    #[test]
    fn a_code_is_an_answer_and_names_have_limits() {
        let mut packet = answer(&[]);
        packet[3] |= 3;
        assert_eq!(parse(&packet, Family::V4), Some(Answer::Code(3)));
        assert_eq!(query(1, "a..b", Family::V4), None);
        assert_eq!(query(1, &"a".repeat(64), Family::V4), None);
        assert!(query(1, "a.", Family::V4).is_some());
    }
}
