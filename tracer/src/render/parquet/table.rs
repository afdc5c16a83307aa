//! The tables and their columns. Names are a contract: columns may be added, none change their
//! meaning.

/// What a column holds. Each may be null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// UTF-8.
    Text,
    /// 64 bits, signed.
    Integer,
    /// Microseconds since the Unix epoch, UTC.
    Time,
    /// True or false.
    Flag,
}

impl Kind {
    /// Its declaration in a Parquet schema.
    pub(super) fn declared(self, name: &str) -> String {
        match self {
            Self::Text => format!("OPTIONAL BYTE_ARRAY {name} (UTF8);"),
            Self::Integer => format!("OPTIONAL INT64 {name};"),
            Self::Time => format!("OPTIONAL INT64 {name} (TIMESTAMP(MICROS,true));"),
            Self::Flag => format!("OPTIONAL BOOLEAN {name};"),
        }
    }
}

/// A value; the kinds of a row's are those of the table's columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cell {
    /// For [`Kind::Text`].
    Text(Option<String>),
    /// For [`Kind::Integer`].
    Integer(Option<i64>),
    /// For [`Kind::Time`]: Unix nanoseconds.
    Time(Option<u64>),
    /// For [`Kind::Flag`].
    Flag(Option<bool>),
}

impl Cell {
    /// Bytes that it takes until it is written: an address and a length, or itself.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Text(Some(text)) => 64 + text.len(),
            Self::Integer(_) | Self::Time(_) => 10,
            Self::Text(None) | Self::Flag(_) => 3,
        }
    }
}

/// A column.
#[derive(Debug)]
pub(crate) struct Column {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// What that means.
    #[cfg_attr(not(test), expect(dead_code, reason = "docs/parquet.md is made of it"))]
    pub meaning: &'static str,
}

/// A table.
#[derive(Debug)]
pub(crate) struct Table {
    /// Its name, also its folder's.
    pub name: &'static str,
    /// One row of it is this.
    #[cfg_attr(not(test), expect(dead_code, reason = "docs/parquet.md is made of it"))]
    pub row: &'static str,
    /// Its columns in order.
    pub columns: &'static [Column],
}

const fn column(name: &'static str, kind: Kind, meaning: &'static str) -> Column {
    Column {
        name,
        kind,
        meaning,
    }
}

/// Failed requests.
pub(crate) static VERDICTS: Table = Table {
    name: "verdicts",
    row: "a failed request, or one whose failure a retry hid",
    columns: &[
        column("run", Kind::Text, "names the run of `tracer record`"),
        column(
            "verdict",
            Kind::Integer,
            "numbers the verdicts of a run, from 1 on",
        ),
        column(
            "time",
            Kind::Time,
            "when nginx made its error answer, or when the masked failure ended",
        ),
        column(
            "status",
            Kind::Integer,
            "what the client received; null: not known",
        ),
        column(
            "masked",
            Kind::Flag,
            "a retry or another page hid the failure from the client",
        ),
        column(
            "cause",
            Kind::Text,
            "an id of the catalogue, see `tracer causes`",
        ),
        column(
            "confidence",
            Kind::Text,
            "`proven`, `inferred` or `unknown`",
        ),
        column(
            "worker",
            Kind::Integer,
            "the nginx worker's pid on the host",
        ),
        column(
            "unit",
            Kind::Text,
            "the container or systemd unit that nginx runs in, where known",
        ),
        column(
            "connection",
            Kind::Integer,
            "nginx's number of the client's connection, where known",
        ),
        column("client", Kind::Text, "the client's address, where known"),
        column(
            "request_host",
            Kind::Text,
            "the `Host` it asked for, where known",
        ),
        column("request_line", Kind::Text, "the request line, where known"),
        column(
            "upstream",
            Kind::Text,
            "`IP:port`, `[v6]:port` or `unix:/path`; null where nginx tried none",
        ),
        column("errno", Kind::Text, "the errno's name, if one was involved"),
        column("attempts", Kind::Integer, "how many upstreams nginx tried"),
        column("summary", Kind::Text, "one sentence"),
        column(
            "evidence",
            Kind::Text,
            "the events and states that it rests on, one per line, in order of time",
        ),
        column("advice", Kind::Text, "what to do, one step per line"),
        column(
            "lost_events",
            Kind::Integer,
            "kernel records lost so far in this run",
        ),
        column(
            "upstream_name",
            Kind::Text,
            "the `upstream` block of that upstream, or the one that had no server left",
        ),
        column(
            "server_name",
            Kind::Text,
            "the first `server_name` of its server block, where known",
        ),
        column(
            "request_id",
            Kind::Text,
            "nginx's `$request_id`, else the client's `X-Request-ID`, where known",
        ),
        column(
            "traceparent",
            Kind::Text,
            "the client's `traceparent`, where known",
        ),
    ],
};

/// Tries of failed requests.
pub(crate) static ATTEMPTS: Table = Table {
    name: "attempts",
    row: "one try of a failed request to reach an upstream",
    columns: &[
        column("run", Kind::Text, "as in `verdicts`"),
        column("verdict", Kind::Integer, "as in `verdicts`"),
        column(
            "attempt",
            Kind::Integer,
            "its ordinal within the request, from 1 on",
        ),
        column("start", Kind::Time, "when it began"),
        column(
            "duration_ns",
            Kind::Integer,
            "how long it took, in nanoseconds",
        ),
        column("upstream", Kind::Text, "as in `verdicts`"),
        column(
            "cause",
            Kind::Text,
            "as in `verdicts`; null for an attempt that succeeded",
        ),
        column("errno", Kind::Text, "the errno's name, if one was involved"),
        column("reused", Kind::Flag, "on a kept-alive connection"),
    ],
};

/// All upstream connections, healthy ones as well.
pub(crate) static CONNECTIONS: Table = Table {
    name: "connections",
    row: "a connection to an upstream that ended, healthy or not, or an attempt that came to none",
    columns: &[
        column("run", Kind::Text, "as in `verdicts`"),
        column("time", Kind::Time, "when nginx closed it"),
        column(
            "start",
            Kind::Time,
            "when `connect()` began; null if that was before the recording",
        ),
        column(
            "worker",
            Kind::Integer,
            "the nginx worker's pid on the host",
        ),
        column(
            "upstream",
            Kind::Text,
            "as in `verdicts`; null where nginx chose none",
        ),
        column(
            "outcome",
            Kind::Text,
            "`answered`, `not-connected`, `no-reply`, `broken-off` or `unanswered`: how its last request went; null if it served none",
        ),
        column(
            "status",
            Kind::Integer,
            "the HTTP/1 status of its last response, where it could be read",
        ),
        column(
            "errno",
            Kind::Text,
            "the last error of its socket, or that of `connect()`",
        ),
        column(
            "connect_ns",
            Kind::Integer,
            "from `connect()` to the end of the handshake, in nanoseconds",
        ),
        column(
            "first_byte_ns",
            Kind::Integer,
            "from `connect()`, or its last reuse, to the first byte of its last response",
        ),
        column(
            "duration_ns",
            Kind::Integer,
            "from `connect()` to its close",
        ),
        column(
            "reuses",
            Kind::Integer,
            "how often nginx took it from its keep-alive cache",
        ),
        column(
            "idle_ns",
            Kind::Integer,
            "how long it had been idle at the last reuse",
        ),
        column("syn_retransmits", Kind::Integer, "SYNs sent again"),
        column("bytes_sent", Kind::Integer, "payload to the upstream"),
        column("bytes_received", Kind::Integer, "payload from it"),
        column("fin_received", Kind::Flag, "the upstream closed it"),
        column("rst_received", Kind::Flag, "the upstream reset it"),
    ],
};
