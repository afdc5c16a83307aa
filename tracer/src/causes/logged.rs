//! Which lines of nginx's error log a cause can be behind. The log alone seldom decides: one line
//! fits several causes, and a cause fits several lines.
//!
//! Rows are wide on purpose: a cause that `live` gives on a request must be among those of its
//! lines. What a line does not show (cut, or another format) excludes nothing.

use std::net::SocketAddr;

use super::errno::{ECONNREFUSED, ECONNRESET, EPIPE, ETIMEDOUT};
use crate::event::{Doing, Said, Sent, Upstream};

/// What a line shows, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Shown {
    /// nginx's message; `None`: the line was cut before it.
    pub(crate) said: Option<Said>,
    /// `(111: Connection refused)`.
    pub(crate) errno: Option<u32>,
    /// What it was doing.
    pub(crate) doing: Option<Doing>,
    /// What kind of address the upstream has.
    pub(crate) place: Option<Place>,
}

/// Where an upstream is, by its address alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// A unix path.
    Unix,
    /// A loopback address.
    Loopback,
    /// Any other address: this host's or another's.
    Address,
}

impl Place {
    pub(crate) fn of(upstream: &Upstream) -> Self {
        match upstream {
            Upstream::Unix(_) => Self::Unix,
            Upstream::Inet(address) if is_loopback(*address) => Self::Loopback,
            Upstream::Inet(_) => Self::Address,
        }
    }
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Lines of one kind. An empty list takes any.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Logged {
    said: &'static [Said],
    errnos: &'static [u32],
    doing: &'static [Doing],
    places: &'static [Place],
    anywhere: bool,
}

impl Logged {
    /// Lines with one of these messages.
    pub(super) const fn of(said: &'static [Said]) -> Self {
        Self {
            said,
            errnos: &[],
            doing: &[],
            places: &[],
            anywhere: false,
        }
    }

    /// … that end with one of these errnos.
    pub(super) const fn errno(self, errnos: &'static [u32]) -> Self {
        Self { errnos, ..self }
    }

    /// … logged in one of these steps.
    pub(super) const fn doing(self, doing: &'static [Doing]) -> Self {
        Self { doing, ..self }
    }

    /// … of a unix path.
    pub(super) const fn unix(self) -> Self {
        let places = &[Place::Unix];
        Self { places, ..self }
    }

    /// … of an internet address.
    pub(super) const fn inet(self) -> Self {
        let places = &[Place::Loopback, Place::Address];
        Self { places, ..self }
    }

    /// … of an internet address other than the loopback's.
    pub(super) const fn beyond_loopback(self) -> Self {
        let places = &[Place::Address];
        Self { places, ..self }
    }

    /// … also where nginx does not name an upstream's step.
    pub(super) const fn anywhere(self) -> Self {
        Self {
            anywhere: true,
            ..self
        }
    }

    /// Can it be such a line?
    pub(super) fn fits(&self, shown: &Shown) -> bool {
        let is_of_upstream = || self.anywhere || shown.doing.is_none_or(Doing::is_of_upstream);
        let in_step = match (self.doing, shown.doing) {
            ([], _) => is_of_upstream(),
            // Rows for any message are of their step alone.
            (_, None) => !self.said.is_empty(),
            (steps, Some(doing)) => steps.contains(&doing),
        };
        // Of a cut line nothing but its errno is left to go by.
        let said = match shown.said {
            Some(said) => self.said.is_empty() || self.said.contains(&said),
            None => !self.errnos.is_empty() && shown.errno.is_some(),
        };
        in_step && said && may_be(self.errnos, shown.errno) && may_be(self.places, shown.place)
    }
}

fn may_be<T: PartialEq>(wanted: &[T], shown: Option<T>) -> bool {
    wanted.is_empty() || shown.is_none_or(|shown| wanted.contains(&shown))
}

const CONNECT: &[Said] = &[Said::ConnectFailed, Said::ConnectFailedAtOnce];
const AT_ONCE: &[Said] = &[Said::ConnectFailedAtOnce];
const READ: &[Said] = &[Said::RecvFailed, Said::ReadvFailed, Said::SslReadFailed];
const WRITE: &[Said] = &[
    Said::SendFailed,
    Said::WritevFailed,
    Said::SendfileFailed,
    Said::SslWriteFailed,
];
const END: &[Said] = &[
    Said::PrematurelyClosed,
    Said::PrematurelyClosedFastCgi,
    Said::PrematurelyClosedStream,
];
pub(super) const BEFORE_BODY: &[Doing] = &[
    Doing::Connecting,
    Doing::Handshaking,
    Doing::Sending,
    Doing::ReadingHeader,
];
const TRANSFER: &[Doing] = &[Doing::Sending, Doing::ReadingHeader];

/// What nginx refuses of a response.
pub(super) const REFUSED_RESPONSE: &[Said] = &[
    Said::PrematurelySent,
    Said::RejectedRequest,
    Said::PrematurelyClosedFastCgi,
    Said::PrematurelyClosedStream,
    Said::AuthStatus,
    Said::SliceStatus,
    Said::Slice,
    Said::Sent(Sent::Goaway),
    Said::Sent(Sent::GoawayFrame),
    Said::Sent(Sent::BodyTooLarge),
    Said::Sent(Sent::StrayFrame),
    Said::Sent(Sent::UnexpectedFrame),
    Said::Sent(Sent::TooBigHeader),
    Said::Sent(Sent::Header),
    Said::Sent(Sent::Chunked),
    Said::Sent(Sent::FastCgi),
    Said::Sent(Sent::Http2),
    Said::Sent(Sent::Other),
];
/// How an HTTP/2 backend breaks a response that it had begun.
pub(super) const BROKEN_HTTP2: &[Said] = &[
    Said::RejectedRequest,
    Said::Sent(Sent::Goaway),
    Said::Sent(Sent::BodyTooLarge),
    Said::Sent(Sent::StrayFrame),
    Said::Sent(Sent::UnexpectedFrame),
    Said::Sent(Sent::Trailer),
];

/// `connect()` failed, at once or later, with one of these errnos.
pub(super) const fn connect(errnos: &'static [u32]) -> Logged {
    Logged::of(CONNECT).errno(errnos)
}

/// `connect()` failed at once with one of these errnos.
pub(super) const fn at_once(errnos: &'static [u32]) -> Logged {
    Logged::of(AT_ONCE).errno(errnos)
}

/// A RST or an ICMP error answered the SYN.
pub(super) const REFUSED: Logged = connect(&[ECONNREFUSED]).inet();
/// nginx's timer ended the `connect()`.
pub(super) const SILENT: Logged = Logged::of(&[Said::TimedOut])
    .errno(&[ETIMEDOUT])
    .doing(&[Doing::Connecting])
    .inet();
/// The kernel's own timer did.
pub(super) const GAVE_UP: Logged = connect(&[ETIMEDOUT]).inet();
/// nginx's timer ended a connection before the response.
pub(super) const LATE: Logged = Logged::of(&[Said::TimedOut])
    .errno(&[ETIMEDOUT])
    .doing(TRANSFER);
/// nginx's timer ended the TLS handshake.
pub(super) const LATE_IN_HANDSHAKE: Logged = Logged::of(&[Said::TimedOut])
    .errno(&[ETIMEDOUT])
    .doing(&[Doing::Handshaking]);
/// The backend closed before the whole header.
pub(super) const CLOSED: Logged = Logged::of(END).doing(BEFORE_BODY);
/// A read before the body met a RST.
pub(super) const RESET: Logged = Logged::of(READ)
    .errno(&[ECONNRESET, EPIPE])
    .doing(BEFORE_BODY);
/// nginx learnt of a RST as it asked how its `connect()` ended.
pub(super) const RESET_ON_CONNECT: Logged = connect(&[ECONNRESET, EPIPE]);
/// A write of the request met a close or a RST.
pub(super) const UNSENT: Logged = Logged::of(WRITE)
    .errno(&[EPIPE, ECONNRESET])
    .doing(BEFORE_BODY);
/// The connection broke in the TLS handshake.
pub(super) const CLOSED_IN_HANDSHAKE: Logged =
    Logged::of(&[Said::PeerClosedInHandshake, Said::HandshakeFailed]).doing(&[Doing::Handshaking]);
/// An HTTP/2 backend closes.
pub(super) const GOAWAY: Logged = Logged::of(&[Said::Sent(Sent::Goaway)]).doing(TRANSFER);
/// The response broke off in its body.
pub(super) const BROKE_OFF: Logged = Logged::of(&[
    Said::PrematurelyClosed,
    Said::PrematurelyClosedFastCgi,
    Said::PrematurelyClosedStream,
    Said::RecvFailed,
    Said::ReadvFailed,
    Said::SslReadFailed,
    Said::TimedOut,
])
.doing(&[Doing::ReadingBody]);
/// A session without a length broke off.
pub(super) const SESSION: Logged = Logged::of(&[
    Said::RecvFailed,
    Said::ReadvFailed,
    Said::SendFailed,
    Said::WritevFailed,
    Said::SslReadFailed,
    Said::SslWriteFailed,
    Said::TimedOut,
    Said::PrematurelyClosed,
])
.doing(&[Doing::InSession]);
