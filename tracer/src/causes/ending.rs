//! How an established connection ended: what the upstream did, against what nginx had written and
//! read.

use super::{
    errno::{ECONNRESET, EPIPE},
    finding::Finding,
    keepalive,
    scene::Scene,
    tls,
};
use crate::event::{Connection, Death, PeerClosed, Said, Time, Upstream};

/// The upstream's end of it went away.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending {
    /// When this host saw it first.
    pub(super) at: Time,
    /// By a RST; else by a FIN, or the end of a unix stream.
    pub(super) reset: bool,
    /// A RST that followed the FIN: something that nginx had sent met a closed socket.
    pub(super) reset_after: Option<Time>,
}

impl<'a> Scene<'a> {
    /// An established connection.
    pub(super) fn stood(&self) -> Option<&'a Connection> {
        self.connection().filter(|c| {
            c.was_established() || is_reused(c) || matches!(c.remote, Upstream::Unix(_))
        })
    }

    /// The connection broke in the body of its response, which the client got cut short.
    pub(super) fn in_body(&self) -> bool {
        let began = |c| response_began(c) && !self.is_answered_for(c);
        self.case.cut_short && self.is_last() && self.connection().is_some_and(began)
    }

    /// The client got an error that is not the upstream's: nginx passed nothing on.
    fn is_answered_for(&self, c: &Connection) -> bool {
        let got = self.case.client_status.or(self.case.status);
        matches!(got, Some(500 | 502 | 504)) && c.status != got
    }

    /// An established connection that failed before the response's header was complete: nginx
    /// passed nothing of it on.
    pub(super) fn failed_before_body(&self) -> Option<&'a Connection> {
        self.stood()
            .filter(|_| !self.in_body() && self.answered_itself().is_none())
    }

    /// … because the upstream ended it, and not nginx's timer.
    pub(super) fn ended(&self) -> Option<(&'a Connection, Ending)> {
        let c = self
            .failed_before_body()
            .filter(|_| !self.timed_out_waiting())?;
        Some((c, ending(c)?))
    }

    /// nginx's timer ended the wait for a response: it says so, answered 504, or left the attempt
    /// in silence.
    pub(super) fn timed_out_waiting(&self) -> bool {
        self.is_timer_shown() || self.left_in_silence()
    }

    /// nginx's own word or answer says that its timer ended the wait.
    pub(super) fn is_timer_shown(&self) -> bool {
        self.said(Said::TimedOut).is_some()
            || (self.is_last() && self.case.status == Some(504) && !self.case.masked)
    }

    /// nginx went on to the next upstream or a cache and logged no reason, although nothing had
    /// come and nothing had failed. Where a TLS handshake had begun, it may have refused the
    /// certificate.
    fn left_in_silence(&self) -> bool {
        let is_silent = |c: &Connection| {
            let answered = response_began(c) || (is_handshaking(c) && heard(c));
            !answered && ending(c).is_none() && c.error.is_none() && c.transfer_error.is_none()
        };
        (!self.is_last() || self.is_replaced())
            && self.stood().is_some_and(is_silent)
            && self.logged(Said::is_fault_of_response).is_none()
            && self.failed_call().is_none()
            && tls::said(self).is_none()
    }

    /// What ended nginx's wait, for a summary.
    pub(super) fn end_of_wait(&self) -> &'static str {
        if self.is_timer_shown() {
            "nginx's timer"
        } else {
            "nginx closed the connection"
        }
    }

    /// Lowers what rests on nginx's timer where only the absence of another reason points to it.
    pub(super) fn by_timer(&self, finding: Finding) -> Finding {
        let is_shown = self.is_timer_shown();
        let finding = finding.unless(
            is_shown,
            "whether nginx's timer ended the wait: nginx went on and did not log why",
        );
        finding.advise_if((!is_shown).then(|| {
            "if nginx's error_log is set to crit or quieter, set it to error: nginx then logs why it went on".to_owned()
        }))
    }

    /// No error answer was made, and something else than this attempt's response was sent: from a
    /// cache.
    fn is_replaced(&self) -> bool {
        self.case.status.is_none() && self.case.client_status.is_some()
    }

    /// The status that the upstream itself answered with, where that is the failure: passed on to
    /// the client, or a reason to try the next upstream.
    pub(super) fn answered_itself(&self) -> Option<u16> {
        let c = self.connection().filter(|c| c.first_byte.is_some())?;
        let status = c.status?;
        let is_failure = if self.is_last() {
            !self.case.masked && self.case.status == Some(status) && matches!(status, 502 | 504)
        } else {
            matches!(status, 403 | 404 | 429 | 500 | 502..=504)
        };
        let faulted =
            self.logged(Said::is_fault_of_response).is_some() || self.failed_call().is_some();
        (is_failure && !faulted).then_some(status)
    }

    /// How the upstream's socket was reset, or went with its process, where that is on this host
    /// and came before what is seen at nginx's.
    pub(super) fn peer_closed(&self) -> Option<&'a PeerClosed> {
        let c = self.connection()?;
        let seen = ending(c).map_or(c.closed, |ending| ending.reset_after.unwrap_or(ending.at));
        self.attempt?
            .peer_closed
            .as_deref()
            .filter(|closed| closed.reset.is_some() || closed.death.is_some())
            .filter(|closed| closed.at <= seen.plus(RST_DELAY))
    }

    /// Who closed the upstream's socket after nginx had given the connection up: it had accepted
    /// it.
    pub(super) fn accepted_by(&self) -> Option<&'a PeerClosed> {
        let closed = self.attempt?.peer_closed.as_deref()?;
        (closed.reset.is_none() && closed.death.is_none()).then_some(closed)
    }

    /// The peer process of a TCP connection that was exiting as the connection closed.
    pub(super) fn death(&self) -> Option<&'a Death> {
        self.peer_closed()?.death.as_ref()
    }

    /// Is a process that held a TCP connection one of those that listen there, a child, or called
    /// alike? Its children may inherit a connection, and be the last to let it go. Where nobody
    /// listens any more it is not known to be another.
    pub(super) fn is_of_backend(&self, death: &Death) -> bool {
        let listeners = self.facts().listener.iter().flat_map(|view| &view.exact);
        let mut owners = listeners.flat_map(|one| one.owner.iter().chain(&one.others));
        let mut is_one = false;
        let is_family = owners.any(|owner| {
            is_one = true;
            [death.pid, death.parent].contains(&owner.pid) || death.name == owner.name
        });
        is_family || !is_one
    }

    /// Processes of a unix upstream that died before its stream ended, and whose death may explain
    /// that: the one that used it; where none was seen to, a child that exits with success is a
    /// helper, or a worker that is done.
    pub(super) fn deaths_before(&self, end: Time) -> impl Iterator<Item = &'a Death> {
        let c = self.connection();
        let listener = c.and_then(|c| c.listener_pid);
        let is_known = c.is_some_and(|c| c.holder.is_some());
        self.attempt
            .map_or(&[][..], |attempt| &attempt.deaths)
            .iter()
            .filter(move |_| c.is_none_or(|c| matches!(c.remote, Upstream::Unix(_))))
            .filter(move |death| {
                death.at <= end && (is_known || death.code != 0 || Some(death.pid) == listener)
            })
    }

    /// A process of the upstream died, by whatever sign, or closed the connection on its way out.
    pub(super) fn has_death(&self, end: Time) -> bool {
        self.death().is_some() || self.deaths_before(end).next().is_some() || self.has_left()
    }

    /// Its process closed it on its way out. Of one that lives on as far as is known, a race
    /// explains more.
    pub(super) fn has_left(&self) -> bool {
        let is_race = || {
            self.ended()
                .is_some_and(|(c, ending)| keepalive::may_be_race(self, c, &ending))
        };
        self.leaving()
            .is_some_and(|leaving| leaving.death.is_some() || !is_race())
    }

    /// The connection goes to an address of this host, or a unix socket.
    pub(super) fn is_here(&self, c: &Connection) -> Option<bool> {
        match c.remote {
            Upstream::Inet(remote) => self.is_local(remote),
            Upstream::Unix(_) => Some(true),
        }
    }

    /// nginx spoke TLS on it, and the connection was made for this request: the handshake is part
    /// of it.
    pub(super) fn in_tls(&self, c: &Connection) -> bool {
        is_fresh_tls(c)
    }

    /// … and nginx never came to write what follows it.
    pub(super) fn in_handshake(&self, c: &Connection) -> bool {
        is_handshaking(c)
    }
}

/// First byte of a TLS record that carries a handshake, or an alert.
pub(super) const TLS_HANDSHAKE: u8 = 0x16;
/// A RST is reported just after it was sent (`tcp_send_active_reset`), and within one host received
/// while it is sent (nanoseconds).
const RST_DELAY: u64 = 5_000_000;
/// See [`TLS_HANDSHAKE`].
pub(super) const TLS_ALERT: u8 = 0x15;
/// … of data; in TLS 1.3 alerts look like it, too.
pub(super) const TLS_DATA: u8 = 0x17;

/// Kept alive from an earlier request; also one that was opened before tracing.
pub(super) fn is_reused(c: &Connection) -> bool {
    c.reuses > 0 || (c.start.0 == 0 && c.reused_at.is_some())
}

fn is_fresh_tls(c: &Connection) -> bool {
    c.first_sent == Some(TLS_HANDSHAKE) && !is_reused(c)
}

/// The TLS handshake was not over: nginx never came to write what follows it.
pub(super) fn is_handshaking(c: &Connection) -> bool {
    is_fresh_tls(c) && !c.tls_data
}

/// nginx spoke TLS on it. A connection from before tracing shows a record of data first.
pub(super) fn is_tls(c: &Connection) -> bool {
    matches!(c.first_sent, Some(TLS_HANDSHAKE | TLS_DATA))
}

/// When nginx read a TLS alert in place of a response: a close_notify, or a refusal.
pub(super) fn alerted(c: &Connection) -> Option<Time> {
    let is_alert = is_tls(c)
        && c.first_byte.is_none()
        && matches!(c.first_received, Some(TLS_ALERT | TLS_DATA));
    c.last_received.filter(|_| is_alert)
}

/// nginx spoke no TLS on it.
pub(super) fn in_plain(c: &Connection) -> bool {
    c.first_sent.is_some_and(|first| first != TLS_HANDSHAKE)
}

/// Payload bytes received, on all its requests.
pub(super) fn received(c: &Connection) -> u64 {
    c.bytes_received
}

/// A first byte of a response came for this request. Without its hook the bytes of a fresh
/// connection say so. Of TLS only what follows nginx's request may be one.
pub(super) fn response_began(c: &Connection) -> bool {
    let are_reads_seen = c.last_received.is_some() || c.first_byte.is_some();
    if is_tls(c) && are_reads_seen {
        return c.first_byte.is_some() && (is_reused(c) || c.tls_data);
    }
    heard(c)
}

/// Bytes of whatever kind came for this request.
pub(super) fn heard(c: &Connection) -> bool {
    c.first_byte.is_some() || c.first_received.is_some() || (!is_reused(c) && received(c) > 0)
}

/// See [`Ending`].
pub(super) fn ending(c: &Connection) -> Option<Ending> {
    let since = c.reused_at.unwrap_or_default();
    let ended = c.end_read.filter(|at| *at >= since);
    let failed = |errno| {
        let by_transfer = c
            .transfer_error
            .filter(|(e, at)| *e == errno && *at >= since);
        by_transfer.map(|(_, at)| at)
    };
    let fin = c.fin_received.or(ended);
    let rst = c
        .rst_received
        .filter(|_| !c.rst_in_syn_sent)
        .or_else(|| failed(ECONNRESET));
    match (fin, rst) {
        (Some(fin), rst) if rst.is_none_or(|rst| fin <= rst) => Some(Ending {
            at: fin,
            reset: false,
            reset_after: rst,
        }),
        (_, Some(rst)) => Some(Ending {
            at: rst,
            reset: true,
            reset_after: None,
        }),
        // Writing to what is closed; a close_notify whose FIN has not come yet.
        _ => failed(EPIPE).or_else(|| alerted(c)).map(|at| Ending {
            at,
            reset: false,
            reset_after: None,
        }),
    }
}
