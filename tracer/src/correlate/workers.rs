//! Who the workers are; those that ended longest ago are forgotten first.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::event::fact::Worker;

/// Workers remembered, ended or not. The kernel side follows 4096 at a time.
const MOST: usize = 16_384;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Workers {
    each: HashMap<u32, Known>,
    /// Those that ended, in that order.
    ended: VecDeque<u32>,
}

#[derive(Debug)]
struct Known {
    worker: Worker,
    has_ended: bool,
}

impl Workers {
    pub(super) fn learn(&mut self, worker: Worker) {
        let pid = worker.pid;
        if !self.each.contains_key(&pid) {
            self.make_room();
        }
        // A pid that came again stays among those that ended: it gives way early, if it must.
        let has_ended = self.each.get(&pid).is_some_and(|known| known.has_ended);
        self.each.insert(pid, Known { worker, has_ended });
    }

    pub(super) fn get(&self, pid: u32) -> Option<&Worker> {
        self.each.get(&pid).map(|known| &known.worker)
    }

    /// One worker of each of these masters, that has not ended.
    pub(super) fn one_of_each(&self, masters: &[u32]) -> Vec<u32> {
        let mut lowest: BTreeMap<u32, u32> = BTreeMap::new();
        for Known { worker, .. } in self.each.values().filter(|known| !known.has_ended) {
            let master = match masters.contains(&worker.pid) {
                true => worker.pid,
                false => worker.master,
            };
            if masters.contains(&master) {
                let pid = lowest.entry(master).or_insert(worker.pid);
                *pid = worker.pid.min(*pid);
            }
        }
        lowest.into_values().collect()
    }

    /// Its requests may be reported after its end.
    pub(super) fn ended(&mut self, pid: u32) {
        if let Some(known) = self.each.get_mut(&pid)
            && !std::mem::replace(&mut known.has_ended, true)
        {
            self.ended.push_back(pid);
        }
    }

    fn make_room(&mut self) {
        while self.each.len() >= MOST {
            if let Some(pid) = self.ended.pop_front() {
                self.each.remove(&pid);
                continue;
            }
            let mut times: Vec<_> = self.each.values().map(|known| known.worker.at).collect();
            let (_, &mut middle, _) = times.select_nth_unstable(MOST / 2);
            self.each.retain(|_, known| known.worker.at > middle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Time;

    fn worker(pid: u32) -> Worker {
        Worker {
            at: Time(pid.into()),
            pid,
            own_pid: pid,
            master: 1,
            uid: 33,
            gid: 33,
            netns: 1,
            unit: None,
            version: None,
            conf: None,
        }
    }

    #[test]
    fn those_that_ended_give_way_before_one_that_lives() {
        let mut workers = Workers::default();
        for pid in 0..100_000 {
            workers.learn(worker(pid));
            if pid > 0 {
                workers.ended(pid);
            }
        }
        assert_eq!(workers.each.len(), MOST);
        assert!(workers.get(0).is_some() && workers.get(99_999).is_some());
        assert!(workers.get(1).is_none() && workers.ended.len() < MOST);
    }

    #[test]
    fn of_too_many_that_live_the_newer_stay() {
        let mut workers = Workers::default();
        (0..100_000).for_each(|pid| workers.learn(worker(pid)));
        assert!(workers.each.len() <= MOST);
        assert!(workers.get(0).is_none() && workers.get(99_999).is_some());
    }
}
