//! nginx's own words, classified once. Correlation and causes ask for their kind, never for text.
//!
//! A line of nginx's log begins like the format that made it, so one classifier serves both.

use std::ops::Deref;

use serde::{Deserialize, Serialize, Serializer};

use super::{Heap, LogCall};

/// A format string of nginx's, and what nginx says with it. Serialized as the string alone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(from = "String")]
pub struct Format {
    text: Box<str>,
    said: Said,
}

impl From<String> for Format {
    fn from(text: String) -> Self {
        let said = Said::of(&text);
        Self {
            text: text.into(),
            said,
        }
    }
}

impl From<&str> for Format {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl Deref for Format {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl Serialize for Format {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl Heap for Format {
    fn heap(&self) -> usize {
        self.text.len()
    }
}

impl LogCall {
    /// Returns what nginx says with it.
    pub(crate) fn said(&self) -> Said {
        self.format.said
    }

    /// Returns what the text says that stands for the format, where that is OpenSSL's error.
    pub(crate) fn text_said(&self) -> Said {
        self.text.as_deref().map(Said::of).unwrap_or_default()
    }

    /// Does it report a failed call? nginx writes `CALL() failed` for each.
    pub(crate) fn is_failed_call(&self) -> bool {
        self.format.contains(" failed")
    }

    /// Returns the HTTP/2 error code that the format takes.
    pub(crate) fn http2_error(&self) -> Option<u32> {
        self.number.filter(|_| self.format.contains("with error %"))
    }
}

/// What nginx says with a format string. Variants exist only for what something asks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Said {
    /// `upstream timed out` (src/http/ngx_http_upstream.c, src/stream/ngx_stream_proxy_module.c).
    TimedOut,
    /// `upstream prematurely closed connection` (src/http/ngx_http_upstream.c).
    PrematurelyClosed,
    /// `upstream prematurely closed FastCGI stdout` (src/http/modules/ngx_http_fastcgi_module.c).
    PrematurelyClosedFastCgi,
    /// `upstream prematurely closed stream` (src/http/modules/ngx_http_grpc_module.c).
    PrematurelyClosedStream,
    /// `upstream prematurely sent response` (src/http/ngx_http_upstream.c).
    PrematurelySent,
    /// `OCSP responder prematurely closed connection` (src/event/ngx_event_openssl_stapling.c).
    PrematurelyClosedOcsp,
    /// `upstream rejected request with error %ui` (src/http/modules/ngx_http_grpc_module.c).
    RejectedRequest,
    /// `upstream sent …`.
    Sent(Sent),
    /// `upstream SSL certificate verify error` (src/http/ngx_http_upstream.c).
    CertificateInvalid,
    /// `upstream SSL certificate does not match` (src/http/ngx_http_upstream.c).
    CertificateMismatch,
    /// Any other format that begins with `upstream `.
    Upstream,
    /// `no live upstreams` (src/http/ngx_http_upstream.c, src/stream/ngx_stream_proxy_module.c).
    NoLiveUpstreams,
    /// `connect() to %V failed`: at once (src/event/ngx_event_connect.c).
    ConnectFailedAtOnce,
    /// `connect() failed`: later (src/http/ngx_http_upstream.c).
    ConnectFailed,
    /// `socket() failed` (src/event/ngx_event_connect.c).
    SocketFailed,
    /// `bind(%V) failed` (src/event/ngx_event_connect.c).
    BindFailed,
    /// `recv() failed` (src/os/unix/ngx_recv.c).
    RecvFailed,
    /// `readv() failed` (src/os/unix/ngx_readv_chain.c).
    ReadvFailed,
    /// `send() failed` (src/os/unix/ngx_send.c).
    SendFailed,
    /// `writev() failed` (src/os/unix/ngx_writev_chain.c).
    WritevFailed,
    /// `sendfile() failed` (src/os/unix/ngx_linux_sendfile_chain.c).
    SendfileFailed,
    /// `%*s`: OpenSSL's error is the text (src/event/ngx_event_openssl.c).
    OpenSsl,
    /// `SSL_do_handshake() failed`, as that text begins (src/event/ngx_event_openssl.c).
    HandshakeFailed,
    /// `SSL_read() failed`, as that text begins (src/event/ngx_event_openssl.c).
    SslReadFailed,
    /// `SSL_write() failed`, as that text begins (src/event/ngx_event_openssl.c).
    SslWriteFailed,
    /// `peer closed connection in SSL handshake` (src/event/ngx_event_openssl.c).
    PeerClosedInHandshake,
    /// `handshake rejected` (src/event/ngx_event_openssl.c).
    HandshakeRejected,
    /// `no resolver defined to resolve %V` (src/http/ngx_http_upstream.c).
    NoResolver,
    /// `%V could not be resolved (%i: %s)` (src/http/ngx_http_upstream.c).
    Unresolved,
    /// `%ui worker_connections are not enough` (src/core/ngx_connection.c).
    NoWorkerConnections,
    /// `limiting requests`, `limiting connections` (src/http/modules/ngx_http_limit_req_module.c,
    /// ngx_http_limit_conn_module.c).
    Limiting,
    /// `auth request unexpected status: %ui` (src/http/modules/ngx_http_auth_request_module.c).
    AuthStatus,
    /// `unexpected status code %ui in slice response`
    /// (src/http/modules/ngx_http_slice_filter_module.c).
    SliceStatus,
    /// Another fault of a slice's response, from the same file.
    Slice,
    /// `open() "%s" failed`: a temporary file or a cache's (src/core/ngx_file.c). Static files have
    /// another format.
    OpenFailed,
    /// `pread() "%s" failed` (src/os/unix/ngx_files.c).
    FileReadFailed,
    /// `pwritev() "%s" failed`, `writev() "%s" has written only %z of %uz`
    /// (src/os/unix/ngx_files.c).
    FileWriteFailed,
    /// `mkdir() "%s" failed`: a folder for a temporary file (src/core/ngx_file.c).
    MkdirFailed,
    /// `could not allocate node%s`: a cache's `keys_zone` is full, said in no request's name
    /// (src/http/ngx_http_file_cache.c).
    KeysZoneFull,
    /// A page that nginx cannot give: `%s "%s" failed`, `directory index of`, `access forbidden`,
    /// `is not a directory` (src/http/modules/ngx_http_static_module.c,
    /// ngx_http_autoindex_module.c, src/http/ngx_http_core_module.c).
    Page,
    /// Other words that mention an upstream, its name or its calls.
    MentionsUpstream,
    /// Nothing that is asked about.
    #[default]
    Other,
}

/// What the upstream sent that nginx did not expect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Sent {
    /// `goaway with error %ui` (src/http/modules/ngx_http_grpc_module.c).
    Goaway,
    /// `goaway frame with invalid length` (src/http/modules/ngx_http_grpc_module.c).
    GoawayFrame,
    /// `response body larger than indicated content length`
    /// (src/http/modules/ngx_http_grpc_module.c).
    BodyTooLarge,
    /// `frame for unknown stream` (src/http/modules/ngx_http_grpc_module.c).
    StrayFrame,
    /// `unexpected http2 frame`, `too large http2 frame` (src/http/modules/ngx_http_grpc_module.c).
    UnexpectedFrame,
    /// `invalid trailer`, `trailer without end stream flag`
    /// (src/http/modules/ngx_http_grpc_module.c).
    Trailer,
    /// `no valid HTTP/1.0 header` (src/http/modules/ngx_http_proxy_module.c).
    NoHttp1Header,
    /// Something else after which nginx goes on: data after the end, an ignored header
    /// (src/http/modules/ngx_http_proxy_module.c, src/event/ngx_event_pipe.c).
    Harmless,
    /// `too big header` (src/http/ngx_http_upstream.c).
    TooBigHeader,
    /// A header line that nginx refuses and names (src/http/ngx_http_upstream.c,
    /// src/http/modules/ngx_http_proxy_module.c).
    Header,
    /// `invalid chunked response` (src/http/modules/ngx_http_proxy_module.c).
    Chunked,
    /// Another fault in FastCGI (src/http/modules/ngx_http_fastcgi_module.c).
    FastCgi,
    /// Another fault in HTTP/2 (src/http/modules/ngx_http_grpc_module.c).
    Http2,
    /// Anything else.
    Other,
}

/// How formats begin; the first row that fits.
const BEGINNINGS: [(&str, Said); 38] = [
    ("upstream timed out", Said::TimedOut),
    (
        "upstream prematurely closed FastCGI",
        Said::PrematurelyClosedFastCgi,
    ),
    (
        "upstream prematurely closed stream",
        Said::PrematurelyClosedStream,
    ),
    ("upstream prematurely closed", Said::PrematurelyClosed),
    ("upstream prematurely", Said::PrematurelySent),
    ("upstream rejected", Said::RejectedRequest),
    ("upstream SSL certificate verify", Said::CertificateInvalid),
    ("upstream SSL certificate", Said::CertificateMismatch),
    (
        "OCSP responder prematurely closed",
        Said::PrematurelyClosedOcsp,
    ),
    ("no live upstreams", Said::NoLiveUpstreams),
    ("connect() to ", Said::ConnectFailedAtOnce),
    ("connect() ", Said::ConnectFailed),
    ("socket() failed", Said::SocketFailed),
    ("bind(", Said::BindFailed),
    ("recv() failed", Said::RecvFailed),
    ("readv() failed", Said::ReadvFailed),
    ("send() failed", Said::SendFailed),
    ("writev() failed", Said::WritevFailed),
    ("sendfile() failed", Said::SendfileFailed),
    ("%*s", Said::OpenSsl),
    ("SSL_do_handshake() failed", Said::HandshakeFailed),
    ("SSL_read() failed", Said::SslReadFailed),
    ("SSL_write() failed", Said::SslWriteFailed),
    (
        "peer closed connection in SSL handshake",
        Said::PeerClosedInHandshake,
    ),
    ("handshake rejected", Said::HandshakeRejected),
    ("no resolver defined", Said::NoResolver),
    ("auth request unexpected status", Said::AuthStatus),
    ("unexpected status code", Said::SliceStatus),
    ("open() \"", Said::OpenFailed),
    ("pread() \"", Said::FileReadFailed),
    ("pwrite() \"", Said::FileWriteFailed),
    ("pwritev() \"", Said::FileWriteFailed),
    ("writev() \"", Said::FileWriteFailed),
    ("mkdir() \"", Said::MkdirFailed),
    ("could not allocate node", Said::KeysZoneFull),
    ("%s \"%s\" failed", Said::Page),
    ("directory index of", Said::Page),
    ("access forbidden by rule", Said::Page),
];

/// What they contain, where an argument comes first.
const PARTS: [(&str, Said); 5] = [
    ("could not be resolved", Said::Unresolved),
    (
        "worker_connections are not enough",
        Said::NoWorkerConnections,
    ),
    ("limiting ", Said::Limiting),
    ("in slice response", Said::Slice),
    ("is not a directory", Said::Page),
];

const MENTIONS: [&str; 5] = ["upstream", "connect() ", "recv() ", "SSL_", "resolve"];

impl Said {
    /// Classifies a format, or a line's message.
    pub(crate) fn of(words: &str) -> Self {
        if let Some(rest) = words.strip_prefix("upstream sent ") {
            return Self::Sent(Sent::of(rest));
        }
        let begins = BEGINNINGS.iter().find(|row| words.starts_with(row.0));
        let row = begins.or_else(|| PARTS.iter().find(|row| words.contains(row.0)));
        match row {
            Some((_, said)) => *said,
            None if words.starts_with("upstream ") => Self::Upstream,
            None if MENTIONS.iter().any(|part| words.contains(part)) => Self::MentionsUpstream,
            None => Self::Other,
        }
    }

    /// Returns where in a text that nginx did not begin the first known message does: the line was
    /// cut, or something precedes it.
    pub(crate) fn find(text: &str) -> Option<usize> {
        let known = BEGINNINGS.iter().map(|row| row.0);
        let known = known.filter(|row| !row.starts_with('%'));
        let known = known.chain(["upstream sent "]);
        known.filter_map(|words| text.find(words)).min()
    }

    /// Did the upstream end its connection or stream too early?
    pub(crate) fn is_premature_end(self) -> bool {
        matches!(
            self,
            Self::PrematurelyClosed
                | Self::PrematurelyClosedFastCgi
                | Self::PrematurelyClosedStream
        )
    }

    /// The same, or did an OCSP responder?
    pub(crate) fn is_prematurely_closed(self) -> bool {
        self.is_premature_end() || self == Self::PrematurelyClosedOcsp
    }

    /// Whether it is about an upstream's response; then so is its first argument.
    pub(crate) fn is_of_response(self) -> bool {
        self.is_fault_of_response()
            || matches!(
                self,
                Self::RejectedRequest
                    | Self::CertificateInvalid
                    | Self::CertificateMismatch
                    | Self::Upstream
            )
    }

    /// Does it say that the response was late, ended too early or broke the protocol?
    pub(crate) fn is_fault_of_response(self) -> bool {
        matches!(self, Self::TimedOut | Self::PrematurelySent | Self::Sent(_))
            || self.is_premature_end()
    }

    /// Does it mention an upstream, by its name or a call on its connection?
    pub(crate) fn mentions_upstream(self) -> bool {
        self.is_of_response()
            || matches!(
                self,
                Self::NoLiveUpstreams
                    | Self::ConnectFailedAtOnce
                    | Self::ConnectFailed
                    | Self::RecvFailed
                    | Self::HandshakeFailed
                    | Self::SslReadFailed
                    | Self::SslWriteFailed
                    | Self::NoResolver
                    | Self::Unresolved
                    | Self::MentionsUpstream
            )
    }

    /// Does a line of a failed attempt say so?
    pub(crate) fn is_failed_attempt(self) -> bool {
        self.is_premature_end()
            || matches!(
                self,
                Self::TimedOut
                    | Self::RejectedRequest
                    | Self::Sent(_)
                    | Self::CertificateInvalid
                    | Self::CertificateMismatch
                    | Self::NoLiveUpstreams
                    | Self::ConnectFailedAtOnce
                    | Self::ConnectFailed
                    | Self::RecvFailed
                    | Self::ReadvFailed
                    | Self::SendFailed
                    | Self::WritevFailed
                    | Self::HandshakeFailed
                    | Self::PeerClosedInHandshake
                    | Self::NoResolver
            )
    }

    /// Did the response break off? nginx logs it at level `error`.
    pub(crate) fn breaks_off(self) -> bool {
        self.is_premature_end()
            || self.breaks_http2()
            || matches!(self, Self::TimedOut | Self::RecvFailed | Self::ReadvFailed)
    }

    /// Did an HTTP/2 backend break the response that it had begun?
    pub(crate) fn breaks_http2(self) -> bool {
        matches!(
            self,
            Self::PrematurelyClosedStream
                | Self::RejectedRequest
                | Self::Sent(
                    Sent::Goaway
                        | Sent::BodyTooLarge
                        | Sent::StrayFrame
                        | Sent::UnexpectedFrame
                        | Sent::Trailer
                )
        )
    }

    /// Does nginx go on nevertheless?
    pub(crate) fn is_harmless(self) -> bool {
        matches!(
            self,
            Self::Sent(Sent::NoHttp1Header | Sent::Trailer | Sent::Harmless)
        )
    }

    /// Does nginx refuse what the upstream sent?
    pub(crate) fn is_refusal(self) -> bool {
        matches!(self, Self::Sent(_)) && !self.is_harmless()
    }

    /// Did the certificate of the upstream fail its check?
    pub(crate) fn is_of_certificate(self) -> bool {
        matches!(self, Self::CertificateInvalid | Self::CertificateMismatch)
    }

    /// Can nginx not write, or read back, a temporary file or a cache's?
    pub(crate) fn is_of_storage(self) -> bool {
        matches!(
            self,
            Self::OpenFailed | Self::FileReadFailed | Self::FileWriteFailed
        )
    }

    /// The same, or can it not make the folder or the cache's key?
    pub(crate) fn is_of_storage_or_folder(self) -> bool {
        self.is_of_storage() || matches!(self, Self::MkdirFailed | Self::KeysZoneFull)
    }

    /// Did a slice's response fail, and with it the response that it is a part of?
    pub(crate) fn is_of_slice(self) -> bool {
        matches!(self, Self::SliceStatus | Self::Slice)
    }
}

/// How they go on after `upstream sent `; the first row that fits.
const SENT_BEGINNINGS: [(&str, Sent); 9] = [
    ("goaway with error", Sent::Goaway),
    ("goaway", Sent::GoawayFrame),
    ("response body larger", Sent::BodyTooLarge),
    ("frame for", Sent::StrayFrame),
    ("data frame for", Sent::StrayFrame),
    ("unexpected http2 frame", Sent::UnexpectedFrame),
    ("too large http2 frame", Sent::UnexpectedFrame),
    ("invalid trailer", Sent::Trailer),
    ("trailer without", Sent::Trailer),
];

/// What they contain; what nginx ignores comes first.
const SENT_PARTS: [(&str, Sent); 13] = [
    ("no valid HTTP/1.0 header", Sent::NoHttp1Header),
    ("more data than specified", Sent::Harmless),
    ("data after", Sent::Harmless),
    ("trailer", Sent::Harmless),
    ("HTTP/1.0 response with early hints", Sent::Harmless),
    ("ignored", Sent::Harmless),
    ("too big header", Sent::TooBigHeader),
    ("http2", Sent::Http2),
    ("FastCGI", Sent::FastCgi),
    ("chunked", Sent::Chunked),
    ("invalid header", Sent::Header),
    ("duplicate header line", Sent::Header),
    ("invalid \"Content-Length\" header", Sent::Header),
];

impl Sent {
    fn of(rest: &str) -> Self {
        let begins = SENT_BEGINNINGS.iter().find(|row| rest.starts_with(row.0));
        let row = begins.or_else(|| SENT_PARTS.iter().find(|row| rest.contains(row.0)));
        row.map_or(Self::Other, |(_, sent)| *sent)
    }
}

/// Is a line about a page that nginx could not give? Its path is the first text in quotes.
pub(crate) fn is_line_of_page(message: &str) -> bool {
    message.contains("\" failed (") || message.contains("forbidden")
}

#[cfg(test)]
mod tests;
