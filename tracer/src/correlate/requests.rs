//! All requests in flight, within a count and a budget of bytes.

use std::collections::{HashMap, hash_map::Entry};

use super::request::Request;
use crate::event::{RequestId, Time};

/// Requests remembered; beyond, at a tick, the older half goes.
pub(super) const REQUESTS: usize = 65_536;
/// Bytes remembered of them; beyond, the older half goes at once.
const BYTES: usize = 64 << 20;
/// What one takes besides what it holds.
const ONE: usize = size_of::<(Key, Request)>() + 32;

/// Worker and request.
pub(super) type Key = (u32, RequestId);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Requests {
    each: HashMap<Key, Request>,
    bytes: usize,
    /// Failed ones that gave way to newer ones.
    pub(super) forgotten: u64,
}

impl Requests {
    /// Something was heard of a request. What it takes more then has to be said by [`Self::grew`].
    pub(super) fn hear(&mut self, key: Key, at: Time) -> &mut Request {
        let request = match self.each.entry(key) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                self.bytes += ONE;
                entry.insert(Request::default())
            }
        };
        request.heard = at;
        request
    }

    /// A request had so many bytes and has so many now: the older ones give way, if they must.
    pub(super) fn grew(&mut self, from: usize, to: usize) {
        self.bytes = self.bytes + to - from;
        while self.bytes > BYTES {
            self.forget_older_half();
        }
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Request> {
        self.each.get(key)
    }

    pub(super) fn remove(&mut self, key: &Key) -> Option<Request> {
        let request = self.each.remove(key)?;
        self.bytes -= ONE + request.bytes();
        Some(request)
    }

    pub(super) fn len(&self) -> usize {
        self.each.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Request> {
        self.each.values()
    }

    pub(super) fn clear(&mut self) {
        self.each.clear();
        self.bytes = 0;
    }

    /// Takes it if nothing was heard of it since `at` and it is settled; if it is not, it may be
    /// later.
    pub(super) fn take_settled(&mut self, key: Key, at: Time) -> Option<Request> {
        let Entry::Occupied(mut entry) = self.each.entry(key) else {
            return None;
        };
        let request = entry.get_mut();
        if request.settles == Some(at) {
            request.settles = None;
        }
        if request.heard > at || !request.is_settled() {
            return None;
        }
        let request = entry.remove();
        self.bytes -= ONE + request.bytes();
        Some(request)
    }

    /// Those of which nothing was heard for so long (nanoseconds) were given up by their clients.
    pub(super) fn forget_silent(&mut self, now: Time, long: u64) {
        self.each
            .retain(|_, request| now.since(request.heard) < long);
        let each = self.each.values().map(|request| ONE + request.bytes());
        self.bytes = each.sum();
    }

    /// A tick: are there too many?
    pub(super) fn limit(&mut self) {
        if self.each.len() > REQUESTS {
            let newer = REQUESTS / 2;
            self.forget(newer);
        }
    }

    fn forget_older_half(&mut self) {
        self.forget(self.each.len() / 2);
    }

    /// Forgets this many of the oldest and those as old, and counts those that had failed.
    fn forget(&mut self, count: usize) {
        let mut times: Vec<Time> = self.each.values().map(|request| request.heard).collect();
        let (_, &mut middle, _) = times.select_nth_unstable(count);
        let forgotten = &mut self.forgotten;
        let bytes = &mut self.bytes;
        self.each.retain(|_, request| {
            let is_kept = request.heard > middle;
            if !is_kept {
                *bytes -= ONE + request.bytes();
                *forgotten += u64::from(request.has_failed());
            }
            is_kept
        });
    }
}
