//! Connections in a page, column by column: most of a capture is healthy connections, which differ
//! in little.
//!
//! A column is the cells of one field for all connections of the page. A field that no connection
//! of the page has is left out. What does not fit the columns (drops, RSTs and ICMP errors of this
//! host) is written as a row instead. The numbers of the columns and what their cells mean are in
//! `docs/capture-format.md`; a number is never reused.

use std::{collections::HashMap, net::SocketAddr, ops::Range};

use super::cells::{apply, difference, put, take, take_piece};
use crate::event::{Connection, Holder, RequestId, RouteLookup, Time, Upstream};

/// The columns, by their number in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Column {
    Closed = 1,
    Worker = 2,
    Socket = 3,
    Start = 4,
    Request = 5,
    LocalAddress = 6,
    LocalPort = 7,
    Remote = 8,
    Netns = 9,
    Established = 10,
    LastSent = 11,
    FirstByte = 12,
    LastReceived = 13,
    FinReceived = 14,
    EndRead = 15,
    RstReceived = 16,
    Status = 17,
    BytesReceived = 18,
    BytesSent = 19,
    State = 20,
    Flags = 21,
    SynRetransmits = 22,
    LastRetransmit = 23,
    ErrorNumber = 24,
    ErrorAt = 25,
    TransferErrorNumber = 26,
    TransferErrorAt = 27,
    FirstSentByte = 28,
    FirstReceivedByte = 29,
    ListenerPid = 30,
    Reuses = 31,
    ReusedAt = 32,
    Idle = 33,
    RouteLookups = 34,
    RouteError = 35,
    RouteKind = 36,
    TlsAlert = 37,
    HolderPid = 38,
    HolderName = 39,
}

/// One more than the last column's number.
pub(super) const COLUMNS: usize = Column::HolderName as usize + 1;
const FLAG_OPEN: u64 = 1;
const FLAG_RST_IN_SYN_SENT: u64 = 2;
const FLAG_TLS_DATA: u64 = 4;
const FLAG_BROKE_OFF: u64 = 8;
const FLAG_ACCEPTED: u64 = 16;
const FLAG_QUEUED: u64 = 32;
const FLAG_WHOLE: u64 = 64;
/// Times and lengths beyond this (73 years) do not fit a cell that also says `none`.
const LIMIT: u64 = 1 << 61;

/// A set of values that repeat: a cell is the value's place in the order of first appearance; where
/// it is a new one, its difference to the new one before follows.
#[derive(Debug, Default)]
struct Seen {
    places: HashMap<u64, u64>,
    last: u64,
}

impl Seen {
    fn put(&mut self, out: &mut Vec<u8>, value: u64) {
        let next = self.places.len() as u64;
        match self.places.get(&value) {
            Some(&place) => put(out, place),
            None => {
                put(out, next);
                put(out, difference(value, self.last));
                self.places.insert(value, next);
                self.last = value;
            }
        }
    }
}

/// Texts that repeat, in order of first appearance; a cell is 1 + the place, 0 for none.
#[derive(Debug, Default)]
struct Names {
    upstreams: HashMap<Upstream, u64>,
    addresses: HashMap<SocketAddr, u64>,
    programs: HashMap<String, u64>,
    texts: Vec<String>,
}

/// Gathers connections.
#[derive(Debug)]
pub(super) struct Writer {
    columns: [Vec<u8>; COLUMNS],
    /// Any cell of the column that is not 0.
    used: [bool; COLUMNS],
    seen: [Seen; 3],
    names: Names,
    before: Before,
    count: usize,
    bytes: usize,
}

/// The connection before, as far as cells are relative to it.
#[derive(Debug, Default, Clone, Copy)]
struct Before {
    closed: u64,
    port: u16,
}

impl Default for Writer {
    fn default() -> Self {
        Self {
            columns: [const { Vec::new() }; COLUMNS],
            used: [false; COLUMNS],
            seen: Default::default(),
            names: Names::default(),
            before: Before::default(),
            count: 0,
            bytes: 0,
        }
    }
}

/// Can the columns say all of it? Every member is named here: a new one has to get its column.
pub(super) fn fits(connection: &Connection) -> bool {
    let Connection {
        socket: _,
        worker: _,
        request,
        start,
        closed,
        local,
        remote,
        netns: _,
        established,
        first_byte,
        status: _,
        fin_received,
        rst_received,
        rst_in_syn_sent: _,
        error,
        state: _,
        syn_retransmits: _,
        last_retransmit,
        bytes_received: _,
        bytes_sent: _,
        unread,
        asked,
        last_sent,
        last_received,
        end_read,
        transfer_error,
        first_sent: _,
        first_received: _,
        tls_alert: _,
        tls_data: _,
        broke_off: _,
        whole: _,
        body,
        listener_pid: _,
        accepted: _,
        holder,
        open: _,
        reuses: _,
        reused_at,
        idle,
        rst_sent,
        drops,
        icmp_sent,
        full_queue,
        translated,
        routes:
            RouteLookup {
                lookups: _,
                error: _,
                kind: _,
                security,
                unseen: _,
            },
    } = connection;
    let flow = |address: &SocketAddr| matches!(address, SocketAddr::V6(v6) if v6.flowinfo() != 0);
    let maybe = |time: &Option<Time>| time.map_or(0, |time| time.0);
    let times = [
        established,
        first_byte,
        fin_received,
        rst_received,
        last_retransmit,
        last_sent,
        last_received,
        end_read,
        reused_at,
    ];
    let all = times.into_iter().fold(
        start.0
            | closed.0
            | request.map_or(0, |request| request.0)
            | idle.unwrap_or(0)
            | error.map_or(0, |(_, at)| at.0)
            | transfer_error.map_or(0, |(_, at)| at.0),
        |all, time| all | maybe(time),
    );
    drops.is_empty()
        && rst_sent.is_none()
        && icmp_sent.is_none()
        && body.is_none()
        && full_queue.is_none()
        && translated.is_none()
        && *unread == 0
        && *asked == 0
        && security.is_none()
        && holder.as_ref().is_none_or(|holder| holder.signal.is_none())
        && !local.as_ref().is_some_and(flow)
        && !matches!(remote, Upstream::Inet(address) if flow(address))
        && all < LIMIT
}

impl Writer {
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// About how many bytes [`Self::take`] would give.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a connection that [`fits`].
    pub(super) fn add(&mut self, connection: &Connection) {
        let c = connection;
        let closed = c.closed.0;
        self.put(Column::Closed, difference(closed, self.before.closed));
        self.before.closed = closed;
        self.put_seen(0, Column::Worker, c.worker.into());
        self.put_seen(1, Column::Socket, c.socket);
        self.put_seen(2, Column::Netns, c.netns.into());
        self.put(Column::Start, difference(c.start.0, closed));
        // A request's number is the time at which it was first met.
        let request = c.request.map(|request| Time(request.0));
        self.put(Column::Request, maybe(request, c.start.0));
        let local = c.local.map_or(0, |address| self.address(address));
        self.put(Column::LocalAddress, local);
        let port = c.local.map_or(self.before.port, |address| address.port());
        self.put(
            Column::LocalPort,
            difference(port.into(), self.before.port.into()),
        );
        self.before.port = port;
        let remote = self.upstream(&c.remote);
        self.put(Column::Remote, remote);
        // Each relative to the one before it that is there: they follow each other closely.
        let mut base = c.start.0;
        for (column, time) in [
            (Column::Established, c.established),
            (Column::LastSent, c.last_sent),
            (Column::FirstByte, c.first_byte),
            (Column::LastReceived, c.last_received),
            (Column::FinReceived, c.fin_received),
            (Column::EndRead, c.end_read),
        ] {
            self.put(column, maybe(time, base));
            base = time.map_or(base, |time| time.0);
        }
        self.put(Column::RstReceived, maybe(c.rst_received, closed));
        self.put(Column::Status, one_more(c.status.map(u64::from)));
        self.put(Column::BytesReceived, c.bytes_received);
        self.put(Column::BytesSent, c.bytes_sent);
        self.put(Column::State, c.state.into());
        let flag = |set: bool, flag: u64| if set { flag } else { 0 };
        let flags = flag(c.open, FLAG_OPEN)
            | flag(c.rst_in_syn_sent, FLAG_RST_IN_SYN_SENT)
            | flag(c.tls_data, FLAG_TLS_DATA)
            | flag(c.broke_off, FLAG_BROKE_OFF)
            | flag(c.whole, FLAG_WHOLE)
            | flag(c.accepted == Some(true), FLAG_ACCEPTED)
            | flag(c.accepted == Some(false), FLAG_QUEUED);
        self.put(Column::Flags, flags);
        self.put(Column::SynRetransmits, c.syn_retransmits.into());
        self.put(Column::LastRetransmit, maybe(c.last_retransmit, closed));
        self.put_error(Column::ErrorNumber, Column::ErrorAt, c.error, closed);
        self.put_error(
            Column::TransferErrorNumber,
            Column::TransferErrorAt,
            c.transfer_error,
            closed,
        );
        self.put(Column::FirstSentByte, one_more(c.first_sent.map(u64::from)));
        self.put(
            Column::FirstReceivedByte,
            one_more(c.first_received.map(u64::from)),
        );
        self.put(Column::ListenerPid, one_more(c.listener_pid.map(u64::from)));
        self.put(Column::Reuses, c.reuses.into());
        self.put(Column::ReusedAt, maybe(c.reused_at, closed));
        self.put(Column::Idle, one_more(c.idle));
        self.put(Column::RouteLookups, c.routes.lookups.into());
        self.put(
            Column::RouteError,
            difference(i64::from(c.routes.error) as u64, 0),
        );
        self.put(Column::RouteKind, c.routes.kind.into());
        self.put(Column::TlsAlert, one_more(c.tls_alert.map(u64::from)));
        let pid = c.holder.as_ref().map(|holder| holder.pid.into());
        self.put(Column::HolderPid, one_more(pid));
        let name = c
            .holder
            .as_ref()
            .map_or(0, |holder| self.program(&holder.name));
        self.put(Column::HolderName, name);
        self.count += 1;
    }

    fn put(&mut self, column: Column, cell: u64) {
        let column = column as usize;
        let before = self.columns[column].len();
        put(&mut self.columns[column], cell);
        self.used[column] |= cell != 0;
        self.bytes += self.columns[column].len() - before;
    }

    fn put_seen(&mut self, set: usize, column: Column, value: u64) {
        let column = column as usize;
        let before = self.columns[column].len();
        self.seen[set].put(&mut self.columns[column], value);
        self.used[column] = true;
        self.bytes += self.columns[column].len() - before;
    }

    fn put_error(&mut self, number: Column, at: Column, error: Option<(u32, Time)>, closed: u64) {
        self.put(number, one_more(error.map(|(number, _)| number.into())));
        self.put(at, error.map_or(0, |(_, at)| difference(at.0, closed)));
    }

    fn address(&mut self, address: SocketAddr) -> u64 {
        let mut address = address;
        address.set_port(0);
        if let Some(&cell) = self.names.addresses.get(&address) {
            return cell;
        }
        let cell = self.text(address.to_string());
        self.names.addresses.insert(address, cell);
        cell
    }

    fn text(&mut self, text: String) -> u64 {
        // So that a page is full before it has more texts than a reader takes.
        self.bytes += text.len() + 32;
        self.names.texts.push(text);
        self.names.texts.len() as u64
    }

    fn program(&mut self, name: &str) -> u64 {
        if let Some(&cell) = self.names.programs.get(name) {
            return cell;
        }
        let cell = self.text(name.to_owned());
        self.names.programs.insert(name.to_owned(), cell);
        cell
    }

    fn upstream(&mut self, upstream: &Upstream) -> u64 {
        if let Some(&cell) = self.names.upstreams.get(upstream) {
            return cell;
        }
        let cell = self.text(upstream.to_string());
        self.names.upstreams.insert(upstream.clone(), cell);
        cell
    }

    /// Returns the section's bytes (the count, the texts, the columns) and resets.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes + 256);
        put(&mut out, self.count as u64);
        put(&mut out, self.names.texts.len() as u64);
        for text in &self.names.texts {
            put(&mut out, text.len() as u64);
            out.extend_from_slice(text.as_bytes());
        }
        for (number, column) in self.columns.iter().enumerate() {
            if self.used[number] {
                put(&mut out, number as u64);
                put(&mut out, column.len() as u64);
                out.extend_from_slice(column);
            }
        }
        *self = Self::default();
        out
    }
}

fn one_more(value: Option<u64>) -> u64 {
    value.map_or(0, |value| value + 1)
}

fn maybe(time: Option<Time>, base: u64) -> u64 {
    one_more(time.map(|time| difference(time.0, base)))
}

/// Reads what [`Writer`] wrote, a connection at a time.
#[derive(Debug)]
pub(super) struct Reader {
    left: u64,
    /// Where the next cell of each column is, and where the column ends.
    columns: [(usize, usize); COLUMNS],
    seen: [Vec<u64>; 3],
    texts: Vec<Text>,
    before: Before,
}

/// A text of the page: where it is, and the address or path that it says, if it says one.
#[derive(Debug)]
struct Text {
    place: Range<usize>,
    upstream: Option<Upstream>,
}

/// No page has more texts, each of at most so many bytes: a unix socket's path has 108, three times
/// that where it is no UTF-8.
const TEXTS: u64 = 1 << 16;
/// See [`TEXTS`].
const LONGEST: usize = 512;

impl Default for Reader {
    fn default() -> Self {
        Self {
            left: 0,
            columns: [(0, 0); COLUMNS],
            seen: Default::default(),
            texts: Vec::new(),
            before: Before::default(),
        }
    }
}

impl Reader {
    /// Opens the section at `start` of its page. `None`: it is damaged.
    pub(super) fn open(section: &[u8], start: usize) -> Option<Self> {
        let mut at = 0;
        let mut reader = Self {
            left: take(section, &mut at)?,
            ..Self::default()
        };
        let texts = take(section, &mut at).filter(|count| *count <= TEXTS)?;
        for _ in 0..texts {
            let text = std::str::from_utf8(take_piece(section, &mut at)?).ok()?;
            if text.len() > LONGEST {
                return None;
            }
            let end = start + at;
            reader.texts.push(Text {
                place: end - text.len()..end,
                upstream: upstream(text),
            });
        }
        while at < section.len() {
            let number = usize::try_from(take(section, &mut at)?).ok()?;
            let column = take_piece(section, &mut at)?;
            // A column of a later version is passed over.
            if let Some(place) = reader.columns.get_mut(number) {
                let end = start + at;
                *place = (end - column.len(), end);
            }
        }
        Some(reader)
    }

    /// The next connection; `None` where the columns end too early.
    pub(super) fn next(&mut self, page: &[u8]) -> Option<Connection> {
        self.left = self.left.checked_sub(1)?;
        let closed = apply(self.before.closed, self.cell(page, Column::Closed)?);
        self.before.closed = closed;
        let worker = self.seen(page, 0, Column::Worker)? as u32;
        let socket = self.seen(page, 1, Column::Socket)?;
        let netns = self.seen(page, 2, Column::Netns)? as u32;
        let start = apply(closed, self.cell(page, Column::Start)?);
        let request = time(self.cell(page, Column::Request)?, start);
        let local = self.cell(page, Column::LocalAddress)?;
        let port = apply(self.before.port.into(), self.cell(page, Column::LocalPort)?) as u16;
        self.before.port = port;
        let local = match self.name(local) {
            Some(Upstream::Inet(mut address)) => {
                address.set_port(port);
                Some(address)
            }
            _ => None,
        };
        let remote = self.cell(page, Column::Remote)?;
        let remote = self.name(remote)?;
        let mut base = start;
        let mut follow = |cell: Option<u64>| {
            let time = time(cell?, base);
            base = time.map_or(base, |time| time.0);
            Some(time)
        };
        let established = follow(self.cell(page, Column::Established))?;
        let last_sent = follow(self.cell(page, Column::LastSent))?;
        let first_byte = follow(self.cell(page, Column::FirstByte))?;
        let last_received = follow(self.cell(page, Column::LastReceived))?;
        let fin_received = follow(self.cell(page, Column::FinReceived))?;
        let end_read = follow(self.cell(page, Column::EndRead))?;
        let rst_received = time(self.cell(page, Column::RstReceived)?, closed);
        let status = self.option(page, Column::Status)?.map(|value| value as u16);
        let bytes_received = self.cell(page, Column::BytesReceived)?;
        let bytes_sent = self.cell(page, Column::BytesSent)?;
        let state = self.cell(page, Column::State)? as u8;
        let flags = self.cell(page, Column::Flags)?;
        Some(Connection {
            socket,
            worker,
            request: request.map(|request| RequestId(request.0)),
            start: Time(start),
            closed: Time(closed),
            local,
            remote,
            netns,
            established,
            first_byte,
            status,
            fin_received,
            rst_received,
            rst_in_syn_sent: flags & FLAG_RST_IN_SYN_SENT != 0,
            error: self.error(page, Column::ErrorNumber, Column::ErrorAt)?,
            state,
            syn_retransmits: self.cell(page, Column::SynRetransmits)? as u32,
            last_retransmit: time(self.cell(page, Column::LastRetransmit)?, closed),
            bytes_received,
            bytes_sent,
            unread: 0,
            asked: 0,
            last_sent,
            last_received,
            end_read,
            transfer_error: self.error(
                page,
                Column::TransferErrorNumber,
                Column::TransferErrorAt,
            )?,
            first_sent: self
                .option(page, Column::FirstSentByte)?
                .map(|value| value as u8),
            first_received: self
                .option(page, Column::FirstReceivedByte)?
                .map(|value| value as u8),
            listener_pid: self
                .option(page, Column::ListenerPid)?
                .map(|value| value as u32),
            open: flags & FLAG_OPEN != 0,
            reuses: self.cell(page, Column::Reuses)? as u32,
            reused_at: time(self.cell(page, Column::ReusedAt)?, closed),
            idle: self.option(page, Column::Idle)?,
            tls_alert: self
                .option(page, Column::TlsAlert)?
                .map(|value| value as u8),
            tls_data: flags & FLAG_TLS_DATA != 0,
            broke_off: flags & FLAG_BROKE_OFF != 0,
            whole: flags & FLAG_WHOLE != 0,
            body: None,
            accepted: match (flags & FLAG_ACCEPTED != 0, flags & FLAG_QUEUED != 0) {
                (true, _) => Some(true),
                (_, true) => Some(false),
                _ => None,
            },
            holder: self.holder(page)?,
            rst_sent: None,
            drops: Vec::new(),
            icmp_sent: None,
            full_queue: None,
            translated: None,
            routes: RouteLookup {
                lookups: self.cell(page, Column::RouteLookups)? as u32,
                error: apply(0, self.cell(page, Column::RouteError)?) as i32,
                kind: self.cell(page, Column::RouteKind)? as u8,
                security: None,
                unseen: false,
            },
        })
    }

    /// The column's next cell; 0 where the column was left out.
    #[inline]
    fn cell(&mut self, page: &[u8], column: Column) -> Option<u64> {
        let (at, end) = &mut self.columns[column as usize];
        if *end == 0 {
            return Some(0);
        }
        take(&page[..*end], at)
    }

    #[inline]
    fn option(&mut self, page: &[u8], column: Column) -> Option<Option<u64>> {
        Some(self.cell(page, column)?.checked_sub(1))
    }

    #[inline]
    fn seen(&mut self, page: &[u8], set: usize, column: Column) -> Option<u64> {
        let place = usize::try_from(self.cell(page, column)?).ok()?;
        let known = self.seen[set].len();
        if place < known {
            return Some(self.seen[set][place]);
        }
        if place > known || self.columns[column as usize].1 == 0 {
            // A column that was left out says 0 for all.
            return (place == 0).then_some(0);
        }
        let last = self.seen[set].last().copied().unwrap_or(0);
        let value = apply(last, self.cell(page, column)?);
        self.seen[set].push(value);
        Some(value)
    }

    fn error(&mut self, page: &[u8], number: Column, at: Column) -> Option<Option<(u32, Time)>> {
        let number = self.option(page, number)?;
        let at = apply(self.before.closed, self.cell(page, at)?);
        Some(number.map(|number| (number as u32, Time(at))))
    }

    fn holder(&mut self, page: &[u8]) -> Option<Option<Holder>> {
        let pid = self.option(page, Column::HolderPid)?;
        let name = self.option(page, Column::HolderName)?;
        let name = name.and_then(|place| self.texts.get(usize::try_from(place).ok()?));
        let name = name.and_then(|text| page.get(text.place.clone()));
        Some(pid.map(|pid| Holder {
            pid: pid as u32,
            name: String::from_utf8_lossy(name.unwrap_or_default()).into_owned(),
            signal: None,
        }))
    }

    fn name(&self, cell: u64) -> Option<Upstream> {
        let place = usize::try_from(cell.checked_sub(1)?).ok()?;
        self.texts.get(place)?.upstream.clone()
    }
}

#[inline]
fn time(cell: u64, base: u64) -> Option<Time> {
    Some(Time(apply(base, cell.checked_sub(1)?)))
}

fn upstream(text: &str) -> Option<Upstream> {
    match text.strip_prefix("unix:") {
        Some(path) => Some(Upstream::Unix(path.to_owned())),
        None => text.parse().ok().map(Upstream::Inet),
    }
}
