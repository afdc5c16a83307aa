//! What is remembered of each of many: the last few, within a budget of bytes. Whose last one is
//! oldest is forgotten first.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

use crate::event::{Heap, Time};

/// The last few of each key.
#[derive(Debug)]
pub(super) struct Remembered<K, T> {
    each: HashMap<K, VecDeque<T>>,
    bytes: usize,
    limits: Limits<T>,
}

/// How much is remembered.
#[derive(Debug)]
pub(super) struct Limits<T> {
    /// When one was.
    pub(super) at: fn(&T) -> Time,
    /// Of each key.
    pub(super) most: usize,
    /// Keys; beyond, only those whose last one is younger than `fresh` (nanoseconds), if that is
    /// enough.
    pub(super) keys: usize,
    /// See `keys`.
    pub(super) fresh: u64,
    /// Bytes of all.
    pub(super) budget: usize,
}

impl<K: Eq + Hash, T: Heap> Remembered<K, T> {
    pub(super) fn new(limits: Limits<T>) -> Self {
        Self {
            each: HashMap::new(),
            bytes: 0,
            limits,
        }
    }

    /// The newest of a key; its oldest gives way.
    pub(super) fn push(&mut self, key: K, value: T) {
        if self.each.len() >= self.limits.keys && !self.each.contains_key(&key) {
            self.forget(self.time(&value), self.limits.fresh);
            while self.each.len() >= self.limits.keys {
                self.forget_older_half();
            }
        }
        let queue = self.each.entry(key).or_default();
        if queue.is_empty() {
            self.bytes += key_bytes::<T>();
        }
        self.bytes += bytes(&value);
        if queue.len() >= self.limits.most
            && let Some(oldest) = queue.pop_front()
        {
            self.bytes -= bytes(&oldest);
        }
        queue.push_back(value);
        while self.bytes > self.limits.budget {
            self.forget_older_half();
        }
    }

    pub(super) fn get(&self, key: &K) -> Option<&VecDeque<T>> {
        self.each.get(key)
    }

    /// The last one of a key.
    pub(super) fn last(&self, key: &K) -> Option<&T> {
        self.each.get(key)?.back()
    }

    /// The last one of each.
    pub(super) fn lasts(&self) -> impl Iterator<Item = (&K, &T)> {
        let each = self.each.iter();
        each.filter_map(|(key, queue)| Some((key, queue.back()?)))
    }

    pub(super) fn remove(&mut self, key: &K) {
        if let Some(queue) = self.each.remove(key) {
            self.bytes -= queue_bytes(&queue);
        }
    }

    /// Keys whose last one is so old (nanoseconds) are forgotten.
    pub(super) fn forget(&mut self, now: Time, age: u64) {
        let at = self.limits.at;
        self.retain(|last| now.since(at(last)) < age);
    }

    /// Of all keys, what is so old is forgotten.
    pub(super) fn forget_each(&mut self, now: Time, age: u64) {
        let at = self.limits.at;
        for queue in self.each.values_mut() {
            queue.retain(|one| now.since(at(one)) < age);
        }
        self.each.retain(|_, queue| !queue.is_empty());
        self.bytes = self.each.values().map(queue_bytes).sum();
    }

    fn time(&self, value: &T) -> Time {
        (self.limits.at)(value)
    }

    fn retain(&mut self, is_kept: impl Fn(&T) -> bool) {
        self.each
            .retain(|_, queue| queue.back().is_some_and(&is_kept));
        self.bytes = self.each.values().map(queue_bytes).sum();
    }

    fn forget_older_half(&mut self) {
        let at = self.limits.at;
        let mut times: Vec<Time> = self.lasts().map(|(_, last)| at(last)).collect();
        if times.is_empty() {
            self.bytes = 0;
            return;
        }
        let half = times.len() / 2;
        let (_, &mut middle, _) = times.select_nth_unstable(half);
        self.retain(|last| at(last) > middle);
    }
}

/// What a value takes.
fn bytes<T: Heap>(value: &T) -> usize {
    size_of::<T>() + value.heap()
}

/// What a key takes beyond its values: a queue has room for some more.
fn key_bytes<T>() -> usize {
    128 + 3 * size_of::<T>()
}

fn queue_bytes<T: Heap>(queue: &VecDeque<T>) -> usize {
    key_bytes::<T>() + queue.iter().map(bytes).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq)]
    struct One(u64, usize);

    impl Heap for One {
        fn heap(&self) -> usize {
            self.1
        }
    }

    fn remembered() -> Remembered<u64, One> {
        Remembered::new(Limits {
            at: |one| Time(one.0),
            most: 2,
            keys: 100,
            fresh: 10,
            budget: 1 << 20,
        })
    }

    #[test]
    fn the_last_few_of_each_are_kept_and_the_oldest_keys_go_first() {
        let mut all = remembered();
        for at in 0..99 {
            all.push(at, One(at, 0));
        }
        (0..3).for_each(|at| all.push(98, One(at + 98, 0)));
        assert_eq!(all.get(&98).map(VecDeque::len), Some(2));
        all.push(200, One(200, 0));
        all.push(201, One(201, 0));
        // All but those two are older than 10.
        let mut keys: Vec<u64> = all.lasts().map(|(key, _)| *key).collect();
        keys.sort_unstable();
        assert_eq!(keys, [200, 201]);
        // All are fresh: the older half goes.
        for at in 300..400 {
            all.push(at, One(300 + at / 50, 0));
        }
        assert!(all.each.len() <= 100 && all.last(&399).is_some());
    }

    #[test]
    fn bytes_are_counted_and_never_above_the_budget() {
        let mut all = remembered();
        for at in 0..5000 {
            all.push(at % 90, One(at, (at % 7) as usize * 10_000));
            let counted: usize = all.each.values().map(queue_bytes).sum();
            assert_eq!(all.bytes, counted);
            assert!(counted <= 1 << 20);
            if at % 100 == 0 {
                all.remove(&(at % 90));
            }
        }
        assert!(all.last(&(4999 % 90)).is_some());
        all.forget_each(Time(5100), 100);
        assert_eq!((all.each.len(), all.bytes), (0, 0));
    }
}
