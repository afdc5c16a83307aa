//! nginx's error log, the only other witness of a failed request: which worker, which connection,
//! what failed.

/// One line of the error log, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// The worker's pid, as nginx counts (in a container, from 1).
    pub worker: u32,
    /// The number after `*`.
    pub connection: u64,
    /// What failed, up to `, client:`.
    pub message: String,
    /// The request line.
    pub request: String,
    /// All of it.
    pub whole: String,
}

impl LogLine {
    /// Reads a line; `None` for lines that belong to no request.
    pub fn parse(whole: &str) -> Option<Self> {
        let (head, rest) = whole.split_once(": *")?;
        let worker = head.rsplit(' ').next()?.split('#').next()?.parse().ok()?;
        let (connection, rest) = rest.split_once(' ')?;
        let (message, rest) = rest.split_once(", client: ")?;
        let request = rest.split_once("request: \"")?.1.split('"').next()?;
        Some(Self {
            worker,
            connection: connection.parse().ok()?,
            message: message.to_owned(),
            request: request.to_owned(),
            whole: whole.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::LogLine;

    #[test]
    fn a_line_of_the_error_log_is_taken_apart() {
        let whole = "2026/11/20 10:15:23 [error] 12#12: *67 connect() failed (111: Connection refused) \
             while connecting to upstream, client: 127.0.0.1, server: , \
             request: \"GET /a/1 HTTP/1.1\", upstream: \"http://127.0.0.1:3000/a/1\", host: \"h\"";
        let line = LogLine::parse(whole);
        let expected = LogLine {
            worker: 12,
            connection: 67,
            message: "connect() failed (111: Connection refused) while connecting to upstream"
                .into(),
            request: "GET /a/1 HTTP/1.1".into(),
            whole: whole.into(),
        };
        assert_eq!(line, Some(expected));
        assert_eq!(
            LogLine::parse("2026/11/20 10:15:23 [notice] 12#12: signal"),
            None
        );
    }
}
