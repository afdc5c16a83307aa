//! The catalogue of causes: from a `Case` to a `Verdict`. Pure, and total: every case has a
//! verdict, or none is due.
//!
//! Each cause looks at one attempt and says whether it fits, and how sure that is. One that fits
//! better than all others is the verdict; if none does, or two fit alike, it is `unexplained`: a
//! wrong verdict is worse.

mod addresses;
mod alone;
pub(crate) mod catalogue;
mod cause;
mod closed;
mod context;
mod crowd;
mod death;
mod denied;
mod dns;
mod drops;
mod dying;
mod early;
mod ending;
pub(crate) mod errno;
mod exchange;
mod finding;
mod firewall;
mod handshake;
mod hook;
mod http2;
mod icmp;
mod judge;
mod keepalive;
mod leaving;
mod limits;
pub(crate) mod logged;
mod looped;
mod names;
mod no_live;
mod programs;
mod protocol;
mod queues;
mod refused;
mod request;
mod response;
mod returned;
mod routes;
mod scene;
mod session;
mod storage;
mod story;
#[cfg(test)]
mod tests;
mod timeouts;
mod tls;
mod unexplained;
mod unix;
mod unreachable;
mod waiting;
mod wording;

pub use self::judge::judge;
