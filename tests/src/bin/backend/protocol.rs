//! Where a request of nginx ends: HTTP/1, HTTP/2 (gRPC), FastCGI, uwsgi or SCGI, known by its first
//! byte.

/// The beginning of every HTTP/2 connection.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// FastCGI's version, and its types of records for a request's body and for an answer.
const FASTCGI: u8 = 1;
const STDIN: u8 = 5;
const STDOUT: u8 = 6;
const END_REQUEST: u8 = 3;

/// Has the request come with all of its body?
pub(crate) fn is_complete(request: &[u8]) -> bool {
    let complete = match request.first() {
        None => None,
        Some(&FASTCGI) => fastcgi(request),
        Some(0) => uwsgi(request),
        Some(digit) if digit.is_ascii_digit() => scgi(request),
        _ if request.starts_with(PREFACE) => http2(&request[PREFACE.len()..]),
        _ => http(request),
    };
    complete.unwrap_or(false)
}

/// A good answer to it, with these header lines, that leaves the connection open.
pub(crate) fn answer(request: &[u8], headers: &str) -> Vec<u8> {
    if request.first() != Some(&FASTCGI) {
        return format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: 2\r\n\r\nok").into_bytes();
    }
    let text = format!("Status: 200\r\n{headers}Content-Length: 2\r\n\r\nok");
    let mut answer = vec![FASTCGI, STDOUT, 0, 1, 0, text.len() as u8, 0, 0];
    answer.extend(text.bytes());
    answer.extend([FASTCGI, END_REQUEST, 0, 1, 0, 8, 0, 0]);
    answer.extend([0; 8]);
    answer
}

fn http(request: &[u8]) -> Option<bool> {
    let end = request.windows(4).position(|end| end == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
    let body = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())
        .unwrap_or(0);
    Some(request.len() >= end + 4 + body)
}

/// Frames until one that ends the stream: HEADERS or DATA with END_STREAM.
fn http2(mut frames: &[u8]) -> Option<bool> {
    loop {
        let [a, b, c, kind, flags, ..] = *frames else {
            return None;
        };
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        frames = frames.get(9 + length..)?;
        if kind <= 1 && flags & 1 != 0 {
            return Some(true);
        }
    }
}

/// Records until an empty one of its body.
fn fastcgi(mut records: &[u8]) -> Option<bool> {
    loop {
        let [_, kind, _, _, high, low, padding, _, ..] = *records else {
            return None;
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        records = records.get(8 + length + usize::from(padding)..)?;
        if kind == STDIN && length == 0 {
            return Some(true);
        }
    }
}

/// A length, the parameters; the tests send no bodies by it.
fn uwsgi(request: &[u8]) -> Option<bool> {
    let length = u16::from_le_bytes([*request.get(1)?, *request.get(2)?]);
    Some(request.len() >= 4 + usize::from(length))
}

/// A netstring of the parameters; the tests send no bodies by it.
fn scgi(request: &[u8]) -> Option<bool> {
    let colon = request.iter().position(|&byte| byte == b':')?;
    let length: usize = std::str::from_utf8(&request[..colon]).ok()?.parse().ok()?;
    Some(request.len() > colon + length + 1)
}
