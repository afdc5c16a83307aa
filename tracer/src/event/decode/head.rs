//! What a client asked: the request line and the host, from the beginning of nginx's buffer of an
//! HTTP/1 request.

use tracer_ebpf::abi::HOST_LEN;

use super::field::lossy;
use crate::event::RequestHead;

/// The pieces of `r->header_in` that the kernel side keeps, see `abi::Client`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pieces<'a> {
    /// What the buffer begins with.
    pub(super) head: &'a [u8],
    /// How far it was parsed.
    pub(super) parsed: usize,
    /// Where this request's first header begins, 0 unknown.
    pub(super) line_end: usize,
    /// What comes before that, where it lies beyond `head`.
    pub(super) tail: &'a [u8],
    /// The value of its `Host`, and its length.
    pub(super) host: (&'a [u8], usize),
}

impl Pieces<'_> {
    /// The request, `None` where its line is not to be found.
    pub(super) fn request(&self) -> Option<RequestHead> {
        let line = self.line()?;
        let method = line.split(|&byte| byte == b' ').next()?;
        let is_method =
            !method.is_empty() && method.len() <= 20 && method.iter().all(u8::is_ascii_uppercase);
        if !is_method || line.len() <= method.len() {
            return None;
        }
        let (host, len) = self.host;
        let host = (0 < len && len <= HOST_LEN).then(|| lossy(&host[..len]));
        Some(RequestHead {
            line: lossy(line),
            host,
        })
    }

    /// The request line. Pipelined requests share the buffer; a line longer than what was kept is
    /// given as far as that goes.
    fn line(&self) -> Option<&[u8]> {
        let is_broken = self.head.contains(&b'\n');
        match self.line_end {
            // Without headers: the buffer's first line, if nothing else was parsed from it.
            0 => {
                let end = self.head.windows(4).position(|end| end == b"\r\n\r\n")?;
                (end + 4 == self.parsed).then(|| last_line(&self.head[..end]))
            }
            end if end <= self.head.len() => Some(last_line(&self.head[..end])),
            _ if self.tail.trim_ascii_end().contains(&b'\n') => Some(last_line(self.tail)),
            _ => (!is_broken).then_some(self.head),
        }
    }
}

fn last_line(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.trim_ascii_end();
    bytes
        .rsplit(|&byte| byte == b'\n')
        .next()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &[u8], first_header: usize) -> Option<String> {
        let mut head = [0; 256];
        let kept = text.len().min(256);
        head[..kept].copy_from_slice(&text[..kept]);
        let mut tail = [0; 128];
        if first_header > 256 {
            tail.copy_from_slice(&text[first_header - 128..first_header]);
        }
        let pieces = Pieces {
            head: &head,
            parsed: text.len(),
            line_end: first_header,
            tail: &tail,
            host: (b"shop\0", 4),
        };
        let request = pieces.request()?;
        assert_eq!(request.host.as_deref(), Some("shop"));
        Some(request.line)
    }

    /// Where the last request's first header begins.
    fn first_header(text: &str) -> usize {
        text.rfind("Host").unwrap_or(0)
    }

    #[test]
    fn the_line_of_a_pipelined_request_is_its_own() {
        let text = "GET /a HTTP/1.1\r\nHost: shop\r\n\r\nPOST /b HTTP/1.1\r\nHost: shop\r\n\r\n";
        let line = asked(text.as_bytes(), first_header(text));
        assert_eq!(line.as_deref(), Some("POST /b HTTP/1.1"));
    }

    #[test]
    fn also_far_in_the_buffer() {
        let text = "GET /a HTTP/1.1\r\nHost: shop\r\n\r\n".repeat(20)
            + "GET /b HTTP/1.1\r\nHost: shop\r\n\r\n";
        let line = asked(text.as_bytes(), first_header(&text));
        assert_eq!(line.as_deref(), Some("GET /b HTTP/1.1"));
        // Its line is longer than what was kept.
        let long = "GET /a HTTP/1.1\r\nHost: shop\r\n\r\n".repeat(20)
            + &format!("GET /{} HTTP/1.1\r\nHost: shop\r\n\r\n", "b".repeat(400));
        assert_eq!(asked(long.as_bytes(), first_header(&long)), None);
    }

    #[test]
    fn a_long_line_is_given_as_far_as_it_was_kept() {
        let text = format!("GET /{} HTTP/1.1\r\nHost: shop\r\n\r\n", "a".repeat(400));
        let line = asked(text.as_bytes(), first_header(&text)).unwrap();
        assert_eq!(line, format!("GET /{}", "a".repeat(251)));
    }

    #[test]
    fn a_body_or_binary_is_no_request() {
        assert_eq!(asked(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0", 0), None);
        assert_eq!(
            asked(b"GET /a HTTP/1.0\r\n\r\n", 0).unwrap(),
            "GET /a HTTP/1.0"
        );
        assert_eq!(asked(b"\x16\x03\x01 x\r\nHost: shop\r\n\r\n", 7), None);
    }
}
