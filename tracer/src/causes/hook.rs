//! The hooks whose silence a verdict can rest on.

use std::{fmt, net::SocketAddr};

use super::scene::Scene;

/// The probe's program (variants share its beginning), and the kernel's name for what it watches.
#[derive(Clone, Copy)]
pub(super) struct Hook {
    program: &'static str,
    name: &'static str,
}

impl fmt::Display for Hook {
    /// As `tracer doctor` names it, with the kernel's word: `drop_packet (kfree_skb)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.program, self.name)
    }
}

pub(super) const RST_SENT: Hook = hook("send_reset", "tcp_send_reset");
pub(super) const RST_RECEIVED: Hook = hook("receive_reset", "tcp_receive_reset");
pub(super) const RECEIVED: Hook = hook("received", "sock_recv_length");
pub(super) const SENT: Hook = hook("sent", "sock_send_length");
pub(super) const DROP: Hook = hook("drop_packet", "kfree_skb");
pub(super) const RETRANSMIT: Hook = hook("retransmit", "tcp_retransmit_skb");
pub(super) const ICMP_SENT: Hook = hook("icmp_send", "icmp_send");
/// Raw sockets, no hook: they may be missing in the worker's network namespace.
pub(super) const ICMP_RECEIVED: Hook = hook("icmp_receive", "raw ICMP sockets");
pub(super) const ROUTE_V4: Hook = hook("route_lookup", "fib_table_lookup");
pub(super) const ROUTE_V6: Hook = hook("route_lookup6", "fib6_table_lookup");
pub(super) const SECURITY: Hook = hook("security", "security_socket_connect");
pub(super) const SIGNAL: Hook = hook("signal", "signal_generate");
pub(super) const EXIT: Hook = hook("exit", "sched_process_exit");

const fn hook(program: &'static str, name: &'static str) -> Hook {
    Hook { program, name }
}

/// The hook that sees route lookups towards an address.
pub(super) fn route_hook(remote: SocketAddr) -> Hook {
    if remote.is_ipv4() { ROUTE_V4 } else { ROUTE_V6 }
}

impl Hook {
    /// Is this the kernel's name of it, or its program's or a variant's?
    fn is_called(self, name: &str) -> bool {
        name == self.name
            || name
                .strip_prefix(self.program)
                .is_some_and(|variant| variant.is_empty() || variant.starts_with('_'))
    }
}

impl Scene<'_> {
    /// Whether a hook is attached.
    pub(super) fn stands(&self, hook: Hook) -> bool {
        let absent = &self.case.absent_hooks;
        !absent.iter().any(|absent| hook.is_called(absent))
    }

    /// Whether the kernel skipped runs of a hook meanwhile.
    pub(super) fn has_skipped(&self, hook: Hook) -> bool {
        let skipped = &self.case.skipped;
        skipped.iter().any(|skipped| hook.is_called(&skipped.hook))
    }
}
