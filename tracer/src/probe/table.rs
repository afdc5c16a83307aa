//! The table of hooks.

/// Where a hook stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A BTF tracepoint, with at least so many arguments (and, for a variant, fewer than so many).
    Tracepoint {
        /// Its name.
        name: &'static str,
        /// Fewest arguments that the program reads.
        at_least: usize,
        /// This variant is for tracepoints with fewer arguments than this.
        below: usize,
    },
    /// The entry of a function that nginx exports.
    Entry(&'static str),
    /// The return of a function that nginx exports.
    Return(&'static str),
}

/// One hook.
#[derive(Debug, Clone, Copy)]
pub struct Hook {
    /// The BPF program, and the name a user sees.
    pub program: &'static str,
    /// Where it stands.
    pub place: Place,
    /// What it shows.
    pub gives: &'static str,
    /// What is lost without it.
    pub without: &'static str,
    /// tracer can not do its work without it.
    pub required: bool,
}

const ANY: usize = usize::MAX;

const fn tracepoint(
    program: &'static str,
    name: &'static str,
    at_least: usize,
    gives: &'static str,
    without: &'static str,
) -> Hook {
    Hook {
        program,
        place: Place::Tracepoint {
            name,
            at_least,
            below: ANY,
        },
        gives,
        without,
        required: false,
    }
}

const fn required(hook: Hook) -> Hook {
    Hook {
        required: true,
        ..hook
    }
}

const fn nginx(
    program: &'static str,
    place: Place,
    gives: &'static str,
    without: &'static str,
) -> Hook {
    Hook {
        program,
        place,
        gives,
        without,
        required: false,
    }
}

/// All hooks, in the order in which they are attached.
pub const HOOKS: &[Hook] = &[
    required(tracepoint(
        "set_state",
        "inet_sock_set_state",
        3,
        "connections of the workers, their states",
        "no connection is seen",
    )),
    required(tracepoint(
        "destroy",
        "tcp_destroy_sock",
        1,
        "their end",
        "failed handshakes are not seen",
    )),
    tracepoint(
        "receive_reset",
        "tcp_receive_reset",
        1,
        "RSTs received",
        "refusals are known by errno alone",
    ),
    Hook {
        place: Place::Tracepoint {
            name: "tcp_send_reset",
            at_least: 3,
            below: ANY,
        },
        ..tracepoint(
            "send_reset_reason",
            "tcp_send_reset",
            3,
            "RSTs that this host sends, and why",
            "no-listener and firewall-reject are inferred from the listeners alone",
        )
    },
    Hook {
        place: Place::Tracepoint {
            name: "tcp_send_reset",
            at_least: 2,
            below: 3,
        },
        ..tracepoint(
            "send_reset_plain",
            "tcp_send_reset",
            2,
            "RSTs that this host sends",
            "no-listener and firewall-reject are inferred from the listeners alone",
        )
    },
    tracepoint(
        "error_report",
        "inet_sk_error_report",
        1,
        "errors that sockets report",
        "asynchronous errors are known only as nginx logs them",
    ),
    tracepoint(
        "icmp_send",
        "icmp_send",
        3,
        "ICMP errors that this host makes",
        "a REJECT by ICMP is inferred from the drop and the error",
    ),
    tracepoint(
        "drop_packet",
        "kfree_skb",
        3,
        "packets dropped, and why",
        "a drop by this host's firewall looks like silence",
    ),
    tracepoint(
        "retransmit",
        "tcp_retransmit_skb",
        2,
        "SYNs sent again",
        "a listener's full queue is asked for only after the failure",
    ),
    tracepoint(
        "route_lookup",
        "fib_table_lookup",
        4,
        "IPv4 route lookups",
        "routes and security hooks with equal errnos are not told apart (IPv4)",
    ),
    tracepoint(
        "route_lookup6",
        "fib6_table_lookup",
        2,
        "IPv6 route lookups",
        "routes and security hooks with equal errnos are not told apart (IPv6)",
    ),
    tracepoint(
        "received",
        "sock_recv_length",
        2,
        "first response bytes, the upstream's own status",
        "masked failures have no status",
    ),
    tracepoint(
        "sent",
        "sock_send_length",
        2,
        "writes to upstreams",
        "a keep-alive race is not proved, TLS to upstreams not seen, nor what clients get behind error_page or a cache",
    ),
    tracepoint(
        "signal",
        "signal_generate",
        3,
        "who sends fatal signals",
        "who killed a backend is not known",
    ),
    tracepoint(
        "oom_victim",
        "mark_victim",
        2,
        "the OOM killer's choice",
        "an OOM kill looks like any SIGKILL",
    ),
    Hook {
        place: Place::Tracepoint {
            name: "mark_victim",
            at_least: 1,
            below: 2,
        },
        ..tracepoint(
            "oom_victim_pid",
            "mark_victim",
            1,
            "the OOM killer's choice",
            "an OOM kill looks like any SIGKILL",
        )
    },
    required(tracepoint(
        "fork",
        "sched_process_fork",
        2,
        "new workers",
        "new workers are not followed",
    )),
    tracepoint(
        "exec",
        "sched_process_exec",
        1,
        "nginx started later",
        "nginx started later is found late",
    ),
    tracepoint(
        "exit",
        "sched_process_exit",
        1,
        "workers that end",
        "workers that end are found late",
    ),
    nginx(
        "connect_peer",
        Place::Entry("ngx_event_connect_peer"),
        "attempts of requests",
        "failures of connect() itself (unix sockets, routes, security) are not seen",
    ),
    nginx(
        "connect_peer_return",
        Place::Return("ngx_event_connect_peer"),
        "how attempts began",
        "failures of connect() itself (unix sockets, routes, security) are not seen",
    ),
    nginx(
        "special_response",
        Place::Entry("ngx_http_special_response_handler"),
        "nginx's own error answers",
        "no verdict can be given: which requests failed is not known",
    ),
    nginx(
        "log_error",
        Place::Entry("ngx_log_error_core"),
        "nginx's own error-log calls",
        "connection numbers of failed attempts are not known",
    ),
];
