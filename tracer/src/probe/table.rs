//! The probe table: for each thing that verdicts rest on, the ways to see it, best first.
//!
//! Which way is taken is decided when tracer starts, by what the kernel's BTF says and by what
//! attaches; never by a version number. Where no way is left, its evidence is lost, and the
//! verdicts that it touches say so.

/// Where a program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// A BTF tracepoint, with at least so many arguments (and, for a variant, fewer than so many).
    Tracepoint {
        /// Its name.
        name: &'static str,
        /// Fewest arguments that the program reads.
        at_least: usize,
        /// This variant is for tracepoints with fewer arguments than this.
        below: usize,
    },
    /// The entry of a kernel function, by a trampoline: it costs some nanoseconds.
    Fentry(&'static str),
    /// The return of a kernel function, by a trampoline.
    Fexit {
        /// Its name.
        function: &'static str,
        /// How many parameters it must have: what it returned follows them.
        parameters: usize,
    },
    /// The entry of a kernel function, by a breakpoint: it costs some hundred nanoseconds.
    Kprobe(&'static str),
    /// The return of a kernel function, by a breakpoint.
    Kretprobe(&'static str),
    /// The entry of a function that nginx exports.
    Entry(&'static str),
    /// The return of a function that nginx exports.
    Return(&'static str),
    /// The entry of a function that nginx exports and calls seldom, where sockets lead to requests:
    /// see [`Layout::is_by_socket`](tracer_ebpf::abi::Layout::is_by_socket).
    BySocket(&'static str),
}

impl Place {
    /// The kind, as `--without` and `tracer doctor` name it.
    #[must_use]
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Tracepoint { .. } => "tracepoint",
            Self::Fentry(_) => "fentry",
            Self::Fexit { .. } => "fexit",
            Self::Kprobe(_) => "kprobe",
            Self::Kretprobe(_) => "kretprobe",
            Self::Entry(_) | Self::BySocket(_) => "uprobe",
            Self::Return(_) => "uretprobe",
        }
    }

    /// The tracepoint or function.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tracepoint { name, .. } => name,
            Self::Fexit { function, .. } => function,
            Self::Fentry(name)
            | Self::Kprobe(name)
            | Self::Kretprobe(name)
            | Self::Entry(name)
            | Self::Return(name)
            | Self::BySocket(name) => name,
        }
    }

    /// Whether it is in nginx, not in the kernel.
    #[must_use]
    pub(crate) fn is_nginx(self) -> bool {
        matches!(self, Self::Entry(_) | Self::Return(_) | Self::BySocket(_))
    }
}

/// A program and its place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hook {
    /// The BPF program.
    pub program: &'static str,
    /// Where it is attached.
    pub place: Place,
}

/// The hooks that see one thing together.
pub(crate) type Way = &'static [Hook];

/// Something that verdicts rest on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sight {
    /// What a user sees, and verdicts name where it is lost.
    pub name: &'static str,
    /// What it shows.
    pub gives: &'static str,
    /// What is lost without it.
    pub without: &'static str,
    /// The causes that cannot be proven without it, or not always.
    pub proves: &'static [&'static str],
    /// The ways to see it, best first.
    pub ways: &'static [Way],
    /// What shows nearly as much where no way is left: the same causes, `inferred` at most.
    pub instead: Option<&'static str>,
    /// tracer can not do its work without it.
    pub required: bool,
    /// Without it no failure of an nginx is seen at all.
    pub sees_failures: bool,
}

const ANY: usize = usize::MAX;

const fn tracepoint(program: &'static str, name: &'static str, at_least: usize) -> Hook {
    below(program, name, at_least, ANY)
}

const fn below(program: &'static str, name: &'static str, at_least: usize, below: usize) -> Hook {
    Hook {
        program,
        place: Place::Tracepoint {
            name,
            at_least,
            below,
        },
    }
}

const fn fentry(program: &'static str, function: &'static str) -> Hook {
    Hook {
        program,
        place: Place::Fentry(function),
    }
}

const fn fexit(program: &'static str, function: &'static str, parameters: usize) -> Hook {
    Hook {
        program,
        place: Place::Fexit {
            function,
            parameters,
        },
    }
}

const fn kprobe(program: &'static str, function: &'static str) -> Hook {
    Hook {
        program,
        place: Place::Kprobe(function),
    }
}

const fn kretprobe(program: &'static str, function: &'static str) -> Hook {
    Hook {
        program,
        place: Place::Kretprobe(function),
    }
}

const fn nginx(program: &'static str, place: Place) -> Hook {
    Hook { program, place }
}

const fn sight(
    name: &'static str,
    gives: &'static str,
    without: &'static str,
    ways: &'static [Way],
) -> Sight {
    Sight {
        name,
        gives,
        without,
        proves: &[],
        ways,
        instead: None,
        required: false,
        sees_failures: false,
    }
}

const fn sees_failures(sight: Sight) -> Sight {
    Sight {
        sees_failures: true,
        ..sight
    }
}

const fn proves(causes: &'static [&'static str], sight: Sight) -> Sight {
    Sight {
        proves: causes,
        ..sight
    }
}

const fn required(sight: Sight) -> Sight {
    Sight {
        required: true,
        ..sight
    }
}

const fn or(sight: Sight, instead: &'static str) -> Sight {
    Sight {
        instead: Some(instead),
        ..sight
    }
}

/// All of them, in the order in which they are attached.
pub(crate) const SIGHTS: &[Sight] = &[
    required(sight(
        "set_state",
        "connections of the workers, their states",
        "no connection is seen",
        &[&[tracepoint("set_state", "inet_sock_set_state", 3)]],
    )),
    required(sight(
        "destroy",
        "their end",
        "failed handshakes are not seen",
        &[&[tracepoint("destroy", "tcp_destroy_sock", 1)]],
    )),
    proves(
        &["refused-by-peer", "backend-reset", "syn-timeout"],
        sight(
            "receive_reset",
            "RSTs received",
            "refusals are known by errno alone",
            &[&[tracepoint("receive_reset", "tcp_receive_reset", 1)]],
        ),
    ),
    or(
        proves(
            &["no-listener", "firewall-reject"],
            sight(
                "send_reset",
                "RSTs that this host sends for want of a socket",
                "no-listener and firewall-reject are inferred from the listeners alone",
                &[
                    &[tracepoint("send_reset_reason", "tcp_send_reset", 3)],
                    &[
                        fentry("reset_answer", "tcp_v4_send_reset"),
                        fentry("reset_answer6", "tcp_v6_send_reset"),
                    ],
                    &[
                        kprobe("reset_answer_probe", "tcp_v4_send_reset"),
                        kprobe("reset_answer6_probe", "tcp_v6_send_reset"),
                    ],
                ],
            ),
        ),
        "the listeners are asked, and the SYN's own drop",
    ),
    sight(
        "own_reset",
        "RSTs that a backend of this host sends",
        "whether a backend reset a connection deliberately is not known",
        &[
            &[tracepoint("send_reset_reason", "tcp_send_reset", 3)],
            &[below("send_reset_plain", "tcp_send_reset", 2, 3)],
        ],
    ),
    sight(
        "error_report",
        "errors that sockets report",
        "asynchronous errors are known only as nginx logs them",
        &[
            &[tracepoint("error_report", "inet_sk_error_report", 1)],
            &[fentry("error_report_entry", "sock_def_error_report")],
            &[kprobe("error_report_probe", "sock_def_error_report")],
        ],
    ),
    or(
        proves(
            &["firewall-reject"],
            sight(
                "icmp_send",
                "ICMP errors that this host makes",
                "a REJECT by ICMP is inferred from the drop and the error",
                &[
                    &[tracepoint("icmp_send", "icmp_send", 3)],
                    &[fentry("icmp_send_entry", "__icmp_send")],
                    &[kprobe("icmp_send_probe", "__icmp_send")],
                ],
            ),
        ),
        "the drop and the error tell of a REJECT",
    ),
    proves(
        &["firewall-drop", "firewall-reject", "syn-timeout"],
        sight(
            "drop_packet",
            "packets dropped, and why",
            "a drop by this host's firewall looks like silence",
            &[
                &[tracepoint("drop_packet", "kfree_skb", 3)],
                &[below("drop_packet_site", "kfree_skb", 2, 3)],
            ],
        ),
    ),
    or(
        proves(
            &["accept-queue-full"],
            sight(
                "overflow",
                "SYNs and ACKs that a full accept queue refuses",
                "a full accept queue is inferred from the listener's queue",
                &[
                    &[
                        fentry("overflow_syn", "tcp_conn_request"),
                        fentry("overflow_ack", "tcp_v4_syn_recv_sock"),
                        fentry("overflow_ack6", "tcp_v6_syn_recv_sock"),
                    ],
                    &[
                        kprobe("overflow_syn_probe", "tcp_conn_request"),
                        kprobe("overflow_ack_probe", "tcp_v4_syn_recv_sock"),
                        kprobe("overflow_ack6_probe", "tcp_v6_syn_recv_sock"),
                    ],
                ],
            ),
        ),
        "the listener is asked for its queue",
    ),
    or(
        proves(
            &["lsm-denied"],
            sight(
                "security",
                "what the security modules say to connect()",
                "lsm-denied is inferred from the absence of route lookups",
                &[
                    &[fexit("security", "security_socket_connect", 3)],
                    &[kretprobe("security_probe", "security_socket_connect")],
                ],
            ),
        ),
        "no route lookup before the denial, and what confines the worker",
    ),
    or(
        proves(
            &["syn-timeout"],
            sight(
                "retransmit",
                "SYNs sent again",
                "a listener's full queue is asked for only after the failure",
                &[&[tracepoint("retransmit", "tcp_retransmit_skb", 2)]],
            ),
        ),
        "the listener is asked after the failure",
    ),
    proves(
        &[
            "route-unreachable",
            "route-prohibit",
            "route-blackhole",
            "no-route",
            "lsm-denied",
            "cgroup-denied",
        ],
        sight(
            "route_lookup",
            "IPv4 route lookups",
            "routes and security hooks with equal errnos are not told apart (IPv4)",
            &[&[tracepoint("route_lookup", "fib_table_lookup", 4)]],
        ),
    ),
    proves(
        &[
            "route-unreachable",
            "route-prohibit",
            "route-blackhole",
            "no-route",
            "lsm-denied",
            "cgroup-denied",
        ],
        sight(
            "route_lookup6",
            "IPv6 route lookups",
            "routes and security hooks with equal errnos are not told apart (IPv6)",
            &[&[tracepoint("route_lookup6", "fib6_table_lookup", 2)]],
        ),
    ),
    proves(
        &["passed-through", "keepalive-race"],
        sight(
            "received",
            "first response bytes, the upstream's own status",
            "masked failures have no status",
            &[
                &[tracepoint("received", "sock_recv_length", 2)],
                &[
                    fexit("received_exit", "inet_recvmsg", 4),
                    fexit("received_exit6", "inet6_recvmsg", 4),
                    fexit("received_exit_unix", "unix_stream_recvmsg", 4),
                ],
            ],
        ),
    ),
    proves(
        &["keepalive-race", "tls-handshake-failed"],
        sight(
            "sent",
            "writes to upstreams",
            "a keep-alive race is not proved, TLS to upstreams not seen, nor what clients get behind error_page or a cache",
            &[
                &[tracepoint("sent", "sock_send_length", 2)],
                &[
                    fexit("sent_exit", "inet_sendmsg", 3),
                    fexit("sent_exit6", "inet6_sendmsg", 3),
                    fexit("sent_exit_unix", "unix_stream_sendmsg", 3),
                ],
            ],
        ),
    ),
    proves(
        &["backend-died", "backend-closed-early"],
        sight(
            "signal",
            "who sends fatal signals",
            "who killed a backend is not known",
            &[&[tracepoint("signal", "signal_generate", 5)]],
        ),
    ),
    proves(
        &["backend-oom-killed"],
        sight(
            "oom_victim",
            "the OOM killer's choice",
            "an OOM kill looks like any SIGKILL",
            &[
                &[tracepoint("oom_victim", "mark_victim", 2)],
                &[below("oom_victim_pid", "mark_victim", 1, 2)],
            ],
        ),
    ),
    required(sight(
        "fork",
        "new workers",
        "new workers are not followed",
        &[&[tracepoint("fork", "sched_process_fork", 2)]],
    )),
    sight(
        "exec",
        "nginx started later",
        "nginx started later is found late",
        &[&[tracepoint("exec", "sched_process_exec", 1)]],
    ),
    proves(
        &["backend-died", "backend-closed-early"],
        sight(
            "exit",
            "workers that end",
            "workers that end are found late",
            &[&[tracepoint("exit", "sched_process_exit", 1)]],
        ),
    ),
    proves(
        &[
            "unix-socket-missing",
            "unix-socket-stale",
            "unix-socket-permission",
            "route-unreachable",
            "route-prohibit",
            "route-blackhole",
            "no-route",
            "lsm-denied",
            "cgroup-denied",
            "ports-exhausted",
            "bind-failed",
            "address-invalid",
            "fd-limit",
        ],
        sight(
            "connect_peer",
            "attempts of requests",
            "failures of connect() itself (unix sockets, routes, security) are not seen",
            &[
                &[nginx(
                    "closed_at_once",
                    Place::BySocket("ngx_close_connection"),
                )],
                &[
                    nginx("connect_peer", Place::Entry("ngx_event_connect_peer")),
                    nginx(
                        "connect_peer_return",
                        Place::Return("ngx_event_connect_peer"),
                    ),
                ],
            ],
        ),
    ),
    sees_failures(sight(
        "special_response",
        "nginx's own error answers",
        "no verdict can be given: which requests failed is not known",
        &[&[nginx(
            "special_response",
            Place::Entry("ngx_http_special_response_handler"),
        )]],
    )),
    sight(
        "return_code",
        "`return` directives that answer with an error",
        "only `return 502` and `return 504` without a text have a verdict",
        &[&[nginx(
            "return_code",
            Place::Entry("ngx_http_script_return_code"),
        )]],
    ),
    sight(
        "log_error",
        "nginx's own error-log calls",
        "connection numbers of failed attempts are not known",
        &[&[nginx("log_error", Place::Entry("ngx_log_error_core"))]],
    ),
];

/// What no hook shows: raw sockets hear it, in the network namespace of each followed worker.
pub(crate) const ICMP_RECEIVE: Sight = proves(
    &["icmp-unreachable", "syn-timeout"],
    sight(
        "icmp_receive",
        "ICMP errors that reach this host, by raw sockets",
        "who refused a connection by ICMP is not known, only its errno, and syn-timeout is inferred",
        &[],
    ),
);

/// The hooks of all ways.
pub(crate) fn hooks() -> impl Iterator<Item = Hook> {
    SIGHTS
        .iter()
        .flat_map(|sight| sight.ways.iter().copied().flatten().copied())
}

/// Whether `--without` may say this: a kind of place or of link, a program, or what raw sockets
/// hear.
#[must_use]
pub(crate) fn is_known(word: &str) -> bool {
    [ICMP_RECEIVE.name, super::object::MULTI].contains(&word)
        || hooks().any(|hook| hook.program == word || hook.place.kind() == word)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::hooks;
    use crate::nginx::binary::HOOKED;

    #[test]
    fn every_function_of_nginx_that_is_hooked_is_looked_for() {
        let hooked = hooks().filter(|hook| hook.place.is_nginx());
        let hooked: BTreeSet<&str> = hooked.map(|hook| hook.place.name()).collect();
        assert_eq!(hooked, BTreeSet::from(HOOKED));
    }
}
