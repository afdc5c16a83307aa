//! What clients really got: a failed request is reported once, when its answer was sent.
//!
//! An error answer of nginx's may lead on to another page, location or upstream (`error_page`),
//! which may fail as well. All cases of one client's request are joined, and released with the
//! status of its reply. Where none comes the case is released as it is.

use std::collections::{BTreeMap, HashMap};

use super::{Case, losses};
use crate::event::{ClientRequest, Heap as _, LogCall, RequestId, Time};

/// A reply that did not come for so long (nanoseconds) is not waited for any more.
const OVERDUE: u64 = 600_000_000_000;
/// Requests waited for; beyond, the oldest are released.
const WAITING: usize = 8192;
/// Between two sweeps there may be more, within so many bytes.
const BYTES: usize = 40 << 20;
/// Of one request, which may be led on ten times (`NGX_HTTP_MAX_URI_CHANGES`), so many attempts,
/// log calls and lines are kept, the first ones.
const JOINED: usize = 256;

/// A request that is waited for.
pub(super) type Ticket = u64;

/// Requests between their first error answer and their reply.
#[derive(Debug, Default)]
pub(super) struct Replies {
    current: HashMap<(u32, ClientRequest), Ticket>,
    waiting: BTreeMap<Ticket, Waiting>,
    next: Ticket,
    /// Bytes of all that wait.
    bytes: usize,
}

/// What a request that is waited for takes, besides its case.
const ONE: usize = 2 * size_of::<((u32, ClientRequest), Waiting)>();

#[derive(Debug)]
struct Waiting {
    key: (u32, ClientRequest),
    since: Time,
    /// Cases of it that are to come.
    open: usize,
    /// Whose error answers those of it were that are known.
    answered: Vec<RequestId>,
    case: Option<Case>,
    /// The client's status, once it was sent; `None` within: the client is gone.
    reply: Option<Option<u16>>,
}

impl Replies {
    /// The request's ticket, for a further case of it.
    pub(super) fn expect(&mut self, worker: u32, request: ClientRequest, now: Time) -> Ticket {
        let key = (worker, request);
        let ticket = *self.current.entry(key).or_insert(self.next);
        self.next = self.next.max(ticket + 1);
        let bytes = &mut self.bytes;
        let waiting = self.waiting.entry(ticket).or_insert_with(|| {
            *bytes += ONE;
            Waiting {
                key,
                since: now,
                open: 0,
                answered: Vec::new(),
                case: None,
                reply: None,
            }
        });
        waiting.open += 1;
        ticket
    }

    /// The same, if an error answer came before.
    pub(super) fn expect_more(
        &mut self,
        worker: u32,
        request: ClientRequest,
        now: Time,
    ) -> Option<Ticket> {
        let is_waiting = self.current.contains_key(&(worker, request));
        is_waiting.then(|| self.expect(worker, request, now))
    }

    /// The reply was sent; the memory of the request may be another's from now on. `false`: nobody
    /// waited for it.
    pub(super) fn replied(
        &mut self,
        worker: u32,
        request: ClientRequest,
        status: Option<u16>,
        cases: &mut Vec<Case>,
    ) -> bool {
        let Some(ticket) = self.current.remove(&(worker, request)) else {
            return false;
        };
        if let Some(waiting) = self.waiting.get_mut(&ticket) {
            waiting.reply = Some(status);
        }
        cases.extend(self.ready(ticket));
        true
    }

    /// What nginx logs after its error answer to this request, on the way to the page that its
    /// client gets: added to what waits for the reply. Returned if nothing does.
    pub(super) fn log(
        &mut self,
        worker: u32,
        request: RequestId,
        call: LogCall,
    ) -> Option<LogCall> {
        let mut newest = self.waiting.values_mut().rev().take(JOINED);
        let found = newest
            .find(|one| one.key.0 == worker && one.answered.contains(&request))
            .and_then(|one| one.case.as_mut());
        let Some(case) = found else {
            return Some(call);
        };
        if case.log_calls.len() < JOINED {
            self.bytes += size_of::<LogCall>() + call.heap();
            case.log_calls.push(call);
        }
        None
    }

    /// All is known of one of its cases, which `answered` this request.
    pub(super) fn explained(
        &mut self,
        ticket: Ticket,
        answered: Option<RequestId>,
        case: Case,
        cases: &mut Vec<Case>,
    ) {
        let Some(waiting) = self.waiting.get_mut(&ticket) else {
            cases.push(case);
            return;
        };
        waiting.open = waiting.open.saturating_sub(1);
        if waiting.answered.len() < JOINED {
            waiting.answered.extend(answered);
        }
        self.bytes -= waiting.case.heap();
        waiting.case = Some(match waiting.case.take() {
            // A case that waited longer for the host's answers is reported later.
            Some(other) if other.time > case.time => case.led_on_to(other),
            Some(before) => before.led_on_to(case),
            None => case,
        });
        self.bytes += waiting.case.heap();
        cases.extend(self.ready(ticket));
    }

    /// One of its cases has no verdict of its own.
    pub(super) fn left_out(&mut self, ticket: Ticket) -> Option<Case> {
        let waiting = self.waiting.get_mut(&ticket)?;
        waiting.open = waiting.open.saturating_sub(1);
        self.ready(ticket)
    }

    /// Releases what has waited too long, so many bytes at a time.
    pub(super) fn forget(&mut self, now: Time, most: usize, cases: &mut Vec<Case>) {
        let least = self.bytes.saturating_sub(most);
        while let Some((_, oldest)) = self.waiting.first_key_value()
            && self.bytes > least
            && (now.since(oldest.since) >= OVERDUE || self.waiting.len() > WAITING)
        {
            self.give_oldest_away(cases);
        }
    }

    /// Releases the oldest if too much waits.
    pub(super) fn limit(&mut self, cases: &mut Vec<Case>) {
        while self.bytes > BYTES {
            self.give_oldest_away(cases);
        }
    }

    /// Ends the stream: releases so many bytes at a time.
    pub(super) fn finish(&mut self, most: usize, cases: &mut Vec<Case>) {
        let least = self.bytes.saturating_sub(most);
        while !self.waiting.is_empty() && (self.bytes > least || cases.is_empty()) {
            self.give_oldest_away(cases);
        }
    }

    fn give_oldest_away(&mut self, cases: &mut Vec<Case>) {
        if let Some((ticket, waiting)) = self.waiting.pop_first() {
            if self.current.get(&waiting.key) == Some(&ticket) {
                self.current.remove(&waiting.key);
            }
            self.bytes -= ONE + waiting.case.heap();
            cases.extend(waiting.case);
        }
    }

    fn ready(&mut self, ticket: Ticket) -> Option<Case> {
        let waiting = self.waiting.get(&ticket)?;
        if waiting.open > 0 || waiting.reply.is_none() {
            return None;
        }
        let waiting = self.waiting.remove(&ticket)?;
        self.bytes -= ONE + waiting.case.heap();
        let mut case = waiting.case?;
        case.client_status = waiting.reply.flatten();
        Some(case)
    }
}

impl Case {
    /// Joins the two into one request, of which this was reported first: `next` began where its
    /// error answer led on to.
    fn led_on_to(self, next: Self) -> Self {
        let is_tried = !next.attempts.is_empty();
        let (status, masked, cut_short) = if is_tried {
            (next.status, next.masked, next.cut_short)
        } else {
            (self.status, self.masked, self.cut_short)
        };
        let (earlier, dns) = (
            joined(self.earlier, next.earlier),
            joined(self.dns, next.dns),
        );
        Self {
            status,
            masked,
            cut_short,
            has_upstream: self.has_upstream || next.has_upstream,
            is_returned: self.is_returned || next.is_returned,
            looped: self.looped.or(next.looped),
            attempts: joined(self.attempts, next.attempts),
            log_calls: joined(self.log_calls, next.log_calls),
            log_lines: joined(self.log_lines, next.log_lines),
            skipped: losses::either(self.skipped, next.skipped),
            head: self.head.or(next.head),
            client: self.client.or(next.client),
            earlier,
            dns,
            ..next
        }
    }
}

fn joined<T>(mut first: Vec<T>, second: Vec<T>) -> Vec<T> {
    first.extend(second);
    first.truncate(JOINED);
    first
}
