//! What nginx was doing as it logged: the words after `while`, classified once.

/// nginx's `log->action` (src/http/ngx_http_upstream.c, src/stream/ngx_stream_proxy_module.c).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Doing {
    /// `connecting to upstream`.
    Connecting,
    /// `SSL handshaking to upstream`.
    Handshaking,
    /// `sending request to upstream`, `sending PROXY protocol header to upstream`.
    Sending,
    /// `reading response header from upstream`.
    ReadingHeader,
    /// `reading upstream`: the response's body.
    ReadingBody,
    /// `proxying upgraded connection`; in a stream `proxying connection`, `proxying and reading
    /// from upstream`, `proxying and sending to upstream`.
    InSession,
    /// `resolving`: the exchange with the name server (src/core/ngx_resolver.c).
    Resolving,
    /// `requesting certificate status`: OCSP (src/event/ngx_event_openssl_stapling.c).
    CertificateStatus,
    /// Anything else: the client's side of nginx.
    Client,
}

/// How the words begin; the first row that fits.
const BEGINNINGS: [(&str, Doing); 13] = [
    ("connecting to upstream", Doing::Connecting),
    ("SSL handshaking to upstream", Doing::Handshaking),
    ("sending request to upstream", Doing::Sending),
    ("sending PROXY protocol header to upstream", Doing::Sending),
    (
        "reading response header from upstream",
        Doing::ReadingHeader,
    ),
    ("reading upstream", Doing::ReadingBody),
    ("proxying and reading from client", Doing::Client),
    ("proxying and sending to client", Doing::Client),
    ("proxying ", Doing::InSession),
    ("resolving", Doing::Resolving),
    ("requesting certificate status", Doing::CertificateStatus),
    // A cut of one of the above.
    ("reading response", Doing::ReadingHeader),
    ("sending request", Doing::Sending),
];

impl Doing {
    /// Classifies the end of a message; `None`: it says nothing of it.
    pub(crate) fn of(message: &str) -> Option<Self> {
        let (_, words) = message.rsplit_once(" while ")?;
        let row = BEGINNINGS.iter().find(|row| words.starts_with(row.0));
        Some(row.map_or(Self::Client, |(_, doing)| *doing))
    }

    /// Whether it is a step of an attempt.
    pub(crate) fn is_of_upstream(self) -> bool {
        !matches!(
            self,
            Self::Client | Self::Resolving | Self::CertificateStatus
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_say_what_nginx_was_doing() {
        for (message, expected) in [
            (
                "connect() failed (111: Connection refused) while connecting to upstream",
                Some(Doing::Connecting),
            ),
            (
                "recv() failed (104: x) while reading response header from upstream",
                Some(Doing::ReadingHeader),
            ),
            (
                "recv() failed (104: x) while proxying and reading from client",
                Some(Doing::Client),
            ),
            (
                "upstream sent invalid header: \"a while connecting to upstream\" while reading upstream",
                Some(Doing::ReadingBody),
            ),
            (
                "SSL_do_handshake() failed (SSL: x) while SSL handshaking",
                Some(Doing::Client),
            ),
            (
                "recv() failed (111: x) while resolving, resolver: 127.0.0.1:53",
                Some(Doing::Resolving),
            ),
            ("open() \"/a\" failed (13: Permission denied)", None),
        ] {
            assert_eq!(Doing::of(message), expected, "{message}");
        }
    }
}
