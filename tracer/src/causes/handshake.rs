//! A TCP handshake that did not end in a connection: who ended it, and by what.

use std::net::{IpAddr, SocketAddr};

use super::{
    errno::{ECONNREFUSED, ETIMEDOUT},
    icmp,
    scene::Scene,
};
use crate::event::{Connection, Said, Upstream};

const SYN_SENT: u8 = 2;
const CLOSE: u8 = 7;
const MILLISECOND: u64 = 1_000_000;

impl<'a> Scene<'a> {
    /// A TCP connection whose handshake was seen from its start and never ended.
    pub(super) fn handshake(&self) -> Option<(&'a Connection, SocketAddr)> {
        let c = self.connection()?;
        let Upstream::Inet(remote) = c.remote else {
            return None;
        };
        let unfinished = !c.was_established()
            && c.start.0 != 0
            && c.reuses == 0
            && c.first_byte.is_none()
            && matches!(c.state, SYN_SENT | CLOSE);
        unfinished.then_some((c, remote))
    }

    /// A handshake that a RST ended. If the hook that sees RSTs arrive is not attached, one that
    /// this host sent and the errno that it gives say the same.
    pub(super) fn reset_handshake(&self) -> Option<(&'a Connection, SocketAddr)> {
        self.handshake().filter(|(c, _)| {
            c.rst_in_syn_sent || (c.rst_sent.is_some() && self.errno() == Some(ECONNREFUSED))
        })
    }

    /// A timer ended the handshake, by nginx's or the kernel's own word.
    fn said_to_time_out(&self) -> bool {
        self.said(Said::TimedOut).is_some()
            || (self.is_last() && self.case.status == Some(504))
            || self
                .connection()
                .is_some_and(|c| c.error.is_some_and(|(errno, _)| errno == ETIMEDOUT))
    }

    /// The ICMP error that ended the handshake: made by this host, else received. One about the
    /// upstream's own packets goes to the upstream, and the handshake ends by a timer.
    pub(super) fn icmp(&self) -> Option<icmp::Error> {
        let (c, remote) = self.handshake().filter(|_| !self.said_to_time_out())?;
        let v6 = remote.is_ipv6();
        let (kind, code) = c
            .icmp_sent
            .map(|(kind, code, _)| (kind, code))
            .or_else(|| {
                self.facts()
                    .icmp
                    .as_ref()
                    .map(|icmp| (icmp.kind, icmp.code))
            })?;
        Some(icmp::Error { v6, kind, code })
    }

    /// nginx's own timer ended the handshake, not an error.
    pub(super) fn timed_out_by_nginx(&self) -> bool {
        let Some((c, _)) = self.handshake() else {
            return false;
        };
        if c.state != SYN_SENT || c.rst_in_syn_sent {
            return false;
        }
        // An error inside connect() wakes nginx at once and may leave SYN_SENT and no report; one
        // that comes later closes the socket. So a socket closed in SYN_SENT after a while was
        // closed by the timer.
        self.said_to_time_out() || c.closed.since(c.start) >= 200 * MILLISECOND
    }

    /// The handshake got no answer that ended it: the kernel or nginx's timer gave up.
    pub(super) fn unanswered(&self) -> Option<(&'a Connection, SocketAddr)> {
        let (c, remote) = self.handshake()?;
        let silent = c.rst_received.is_none()
            && !c.rst_in_syn_sent
            && self.icmp().is_none()
            && self.errno() == Some(ETIMEDOUT);
        silent.then_some((c, remote))
    }

    /// The sender of a received ICMP error.
    pub(super) fn icmp_sender(&self) -> Option<IpAddr> {
        self.facts()
            .icmp
            .as_ref()
            .map(|icmp| icmp.sender.to_canonical())
    }
}
