//! What waits to be sent: bounded in number and in bytes. The event loop holds the lock while it
//! adds one, the sender while it takes a batch.

use std::{
    collections::VecDeque,
    mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::Notify;

use crate::{event::Heap as _, render::json::Said, verdict::Verdict};

/// Verdicts and notices.
const ITEMS: usize = 8192;
/// Bytes of them.
const BYTES: usize = 8 << 20;

/// One of them.
#[derive(Debug)]
pub(super) enum Item {
    Verdict(Box<Verdict>),
    Notice(Said),
}

impl Item {
    fn bytes(&self) -> usize {
        match self {
            Self::Verdict(verdict) => size_of::<Verdict>() + verdict.heap(),
            Self::Notice(said) => size_of::<Said>() + said.text.len(),
        }
    }
}

/// What a run did not send, in verdicts and notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Unsent {
    /// The queue was full, or the run ended.
    pub(crate) dropped: u64,
    /// The collector refused them.
    pub(crate) refused: u64,
}

/// The queue; see [the module](self).
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// The sender's end.
    ended: Condvar,
    /// There is more, or it is the end.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Item>,
    bytes: usize,
    /// Taken, and not yet sent.
    taken: u64,
    unsent: Unsent,
    /// The run ends; the sender has until then.
    until: Option<Instant>,
    has_ended: bool,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one at the end, unless the queue is full.
    pub(super) fn add(&self, item: Item) {
        let bytes = item.bytes();
        let mut state = self.state();
        if state.items.len() >= ITEMS || state.bytes + bytes > BYTES || state.has_ended {
            state.unsent.dropped += 1;
            return;
        }
        state.bytes += bytes;
        state.items.push_back(item);
        drop(state);
        self.changed.notify_one();
    }

    /// Takes so many from the beginning; none if none are there.
    pub(super) fn take(&self, many: usize) -> Vec<Item> {
        let mut state = self.state();
        let many = many.min(state.items.len());
        let items: Vec<Item> = state.items.drain(..many).collect();
        state.bytes -= items.iter().map(Item::bytes).sum::<usize>();
        state.taken = many as u64;
        items
    }

    /// What was taken is done with: so many were refused.
    pub(super) fn done(&self, refused: u64) {
        let mut state = self.state();
        state.taken = 0;
        state.unsent.refused += refused;
    }

    pub(super) fn len(&self) -> usize {
        self.state().items.len()
    }

    /// When the run ends it.
    pub(super) fn until(&self) -> Option<Instant> {
        self.state().until
    }

    /// Waits until something was added, or the run ends.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The sender will send no more.
    pub(super) fn end(&self) {
        self.state().has_ended = true;
        self.ended.notify_all();
    }

    /// Lets the sender finish until then; returns what was not sent.
    pub(super) fn close(&self, until: Instant) -> Unsent {
        let mut state = self.state();
        state.until = Some(until);
        self.changed.notify_one();
        while !state.has_ended {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.ended.wait_timeout(state, left);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        state.has_ended = true;
        let left = state.items.len() as u64 + mem::take(&mut state.taken);
        state.unsent.dropped += left;
        state.unsent
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::event::Time;

    fn notice(text: String) -> Item {
        Item::Notice(Said {
            at: Time(1),
            event: "lost",
            is_over: false,
            pid: None,
            text,
        })
    }

    #[test]
    fn what_finds_the_queue_full_is_counted() {
        let queue = Queue::default();
        for _ in 0..ITEMS + 5 {
            queue.add(notice(String::new()));
        }
        assert_eq!(queue.take(10).len(), 10);
        queue.done(3);
        assert_eq!(queue.take(7).len(), 7);
        // Nobody sends: all that waits or was taken is dropped.
        let unsent = queue.close(Instant::now());
        let dropped = 5 + ITEMS as u64 - 10;
        assert_eq!(
            unsent,
            Unsent {
                dropped,
                refused: 3
            }
        );
    }

    #[test]
    fn long_texts_are_bounded_in_bytes() {
        let queue = Queue::default();
        for _ in 0..20 {
            queue.add(notice("x".repeat(1 << 20)));
        }
        assert!(queue.len() < 8, "{}", queue.len());
        queue.take(4);
        queue.add(notice("x".repeat(1 << 20)));
        assert_eq!(queue.len(), 4);
    }

    #[test]
    fn a_close_waits_no_longer_than_it_says() {
        let queue = Queue::default();
        let before = Instant::now();
        queue.close(before + Duration::from_millis(20));
        assert!(before.elapsed() >= Duration::from_millis(20));
        queue.end();
        // An end that came is not waited for.
        queue.close(Instant::now() + Duration::from_secs(3600));
    }
}
