//! The host observer: asks the host what the correlator wants to know, at the moment it wants to
//! know it.
//!
//! Every answer is bounded in memory and time (a fraction of a second at worst, milliseconds as a
//! rule) and comes from a thread that may block. Nothing on the host is changed, and nothing stays
//! open in another namespace. What is not known is an `Err` in words, never a guess.

mod accept_queues;
mod accounts;
mod cgroup_programs;
mod configured;
mod confinement;
mod conntrack;
mod descriptors;
mod folder;
mod forwarder;
mod gauge;
mod icmp;
mod link;
mod listener;
mod neighbor;
mod netlink;
mod owner;
mod path_walk;
mod peer_socket;
mod place;
mod ports;
mod route;
mod sock_diag;
mod strain;
mod unix_path;
mod viewer;
mod way;

pub(super) use self::accept_queues::AcceptQueues;
pub(crate) use self::accept_queues::Depth;
pub(super) use self::gauge::{Change, Gauge};
pub(crate) use self::icmp::IcmpListener;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};

use self::{
    configured::Configured,
    listener::{Listings, Memory},
    owner::Owners,
    place::{Asked, Namespaces},
    strain::Strains,
    viewer::Viewers,
};
use crate::{
    event::{Event, Fact, Notice, Question, Strain, Time, fact::Finding},
    nginx::{self, LogTail},
};

/// For the fuzz targets: reads what a netlink socket receives, whatever it is.
pub fn read_answer(datagram: &[u8]) {
    let mut answers = netlink::Answers {
        sequence: 1,
        port: 1,
        left: 64,
        has_changed: false,
    };
    let _ = answers.take(datagram, |_, message| {
        sock_diag::read(message);
        route::read(message);
        link::read(message);
        neighbor::read(message);
    });
}

/// For the fuzz targets: reads a file of `/proc` or `/etc`, whatever it is.
pub fn read_proc(text: &str) {
    accounts::read(text);
    conntrack::read(text);
    forwarder::read(text);
    descriptors::read(text);
    ports::read(text);
    strain::read(text);
}

/// Answers questions about this host.
#[derive(Debug)]
pub(crate) struct Observer {
    owners: Owners,
    listings: Listings,
    namespaces: Namespaces,
    configured: Configured,
    logs: LogTail,
    viewers: Viewers,
    strains: Strains,
    skipped: Gauge,
    skipped_before: u64,
}

impl Observer {
    /// Reads these error logs in addition to those that workers hold open.
    #[must_use]
    pub(crate) fn new(error_logs: Vec<PathBuf>) -> Self {
        Self {
            owners: Owners::default(),
            listings: Listings::default(),
            namespaces: Namespaces::default(),
            configured: Configured::default(),
            logs: LogTail::new(error_logs),
            viewers: Viewers::default(),
            strains: Strains::default(),
            skipped: Gauge::default(),
            skipped_before: 0,
        }
    }

    /// Reads this worker's logs from here on. To be called as early as possible: what was logged
    /// before is not read.
    pub(crate) fn follow(&mut self, worker: u32) {
        if let Some(master) = self.logs.follow(worker) {
            self.owners.follow(worker, master);
        }
        // Remembered for when it has ended; if it has already, there is nothing to remember.
        let parent = self.viewers.meet(worker).unwrap_or(worker);
        self.strains.follow(worker, parent);
    }

    /// The worker ended.
    pub(crate) fn forget(&mut self, worker: u32) {
        self.logs.forget(worker);
        self.strains.forget(worker);
        self.owners.forget(worker);
    }

    /// Drops what gone workers held. Returns when there is more to drop.
    pub(crate) fn release(&mut self) -> Option<Duration> {
        self.logs.release()
    }

    /// Polls the resources of nginx that may be near their limits; returns what changed. `is_busy`:
    /// questions wait.
    pub(crate) fn look(&mut self, now: Time, is_busy: bool) -> Vec<Event> {
        self.viewers.look();
        self.logs.sweep();
        let mut notices = self.strains.look(now, is_busy);
        notices.extend(self.unread_logs(now));
        notices.into_iter().map(Event::Notice).collect()
    }

    /// What of the logs is not read: without its lines verdicts may lack the request's names.
    fn unread_logs(&mut self, now: Time) -> Vec<Notice> {
        let skipped = self.logs.skipped();
        let bytes = skipped - std::mem::replace(&mut self.skipped_before, skipped);
        let notice = |pid, strain, is_over| Notice {
            at: now,
            pid,
            strain,
            is_over,
        };
        let mut notices = Vec::new();
        if let Some(change) = self.skipped.sample(now, bytes > 0, bytes == 0) {
            let strain = Strain::LogSkipped { bytes: skipped };
            notices.push(notice(0, strain, change == Change::Ends));
        }
        let mut stalled = self.logs.take_stalled();
        stalled.sort_unstable();
        stalled.dedup();
        notices.extend(
            stalled
                .into_iter()
                .map(|pid| notice(pid, Strain::LogStalled, false)),
        );
        notices
    }

    /// Answers now, in the order of the stream: the log lines that a [`Question::Log`] brought,
    /// then the fact. `now` is the boot time, and becomes the time of all of them; at `asked` the
    /// question came.
    pub(crate) fn answer(&mut self, question: &Question, asked: Time, now: Time) -> Vec<Event> {
        let asked = Asked { at: asked, now };
        let mut finding = self.find(question, asked);
        // A worker that ended while it was looked at: its master answers.
        if finding.is_err() && viewer::has_ended(question.worker()) {
            finding = self.find(question, asked);
        }
        let finding = finding.map_err(|error| format!("{error:#}"));
        let mut events = Vec::new();
        if let Question::Log { worker } = question {
            let lines = self.logs.read_new(*worker, now);
            events.extend(lines.into_iter().map(Event::LogLine));
        }
        events.push(Event::Fact(Box::new(Fact {
            at: now,
            question: question.clone(),
            finding,
        })));
        events
    }

    /// Whose root has the configuration, with the rights to read it: a worker's master.
    fn reader_of(&mut self, worker: u32) -> Result<u32> {
        let viewer = self.viewers.of(worker)?.pid;
        let parent = crate::process::status(viewer).map(|status| status.parent);
        let is_master = |pid: &u32| {
            nginx::inspect(*pid).is_some_and(|process| process.kind == nginx::Kind::Master)
        };
        Ok(parent.ok().filter(is_master).unwrap_or(viewer))
    }

    fn find(&mut self, question: &Question, asked: Asked) -> Result<Finding> {
        let now = asked.now;
        match question {
            Question::Listener { worker, address } => {
                let viewer = self.viewers.of(*worker)?;
                let memory = Memory {
                    listings: &mut self.listings,
                    namespaces: &mut self.namespaces,
                    owners: &mut self.owners,
                };
                listener::view(viewer.pid, *address, memory, asked).map(Finding::Listener)
            }
            Question::UnixPath { worker, path } => {
                let viewer = self.viewers.of(*worker)?;
                let status = viewer
                    .status
                    .with_context(|| format!("the user of worker {worker}, which has ended"))?;
                unix_path::view((viewer.pid, &status), path, &mut self.owners, now)
                    .map(|view| Finding::UnixPath(Box::new(view)))
            }
            Question::PeerSocket {
                worker,
                local,
                remote,
            } => {
                let viewer = self.viewers.of(*worker)?;
                let memory = (&mut self.namespaces, &mut self.owners);
                peer_socket::view(viewer.pid, (*local, *remote), memory, asked)
                    .map(Finding::PeerSocket)
            }
            Question::Ports { worker, remote } => {
                ports::view(self.viewers.of(*worker)?.pid, *remote).map(Finding::Ports)
            }
            Question::Descriptors { worker } => {
                descriptors::view(*worker).map(Finding::Descriptors)
            }
            Question::Confinement { worker } => {
                confinement::view(self.viewers.of(*worker)?.pid).map(Finding::Confinement)
            }
            Question::Log { .. } => Ok(Finding::Log),
            Question::Folder { worker, path } => {
                let viewer = self.viewers.of(*worker)?;
                let status = viewer
                    .status
                    .with_context(|| format!("the user of worker {worker}, which has ended"))?;
                folder::view((viewer.pid, &status), path)
                    .map(|view| Finding::Folder(Box::new(view)))
            }
            Question::Names { worker, .. }
            | Question::Returns { worker, .. }
            | Question::Block { worker, .. } => {
                let reader = self.reader_of(*worker)?;
                self.configured.ask(reader, question)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::host::path_walk::Directory;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn bytes_of_logs_that_are_not_read_are_said_once_and_when_it_is_over() {
        let directory = Directory::new("skipped-log");
        let log = PathBuf::from(directory.file("error.log"));
        std::fs::write(&log, "").unwrap();
        let mut observer = Observer::new(vec![log.clone()]);
        // Nobody's: the log that the operator named is read.
        let worker = u32::MAX;
        let said = |observer: &mut Observer, second: u64| -> Vec<Notice> {
            let events = observer.look(Time(second * SECOND), false).into_iter();
            events
                .map(|event| match event {
                    Event::Notice(notice) => notice,
                    other => panic!("{other:?}"),
                })
                .collect()
        };
        let line = "2026/11/20 10:15:23 [error] 7#7: *1 x, client: 1.1.1.1, server: a\n";
        let much = line.repeat((3 << 20) / line.len());
        std::fs::write(&log, &much).unwrap();
        let _ = observer.answer(&Question::Log { worker }, Time(1), Time(1));
        let notices = said(&mut observer, 1);
        let [notice] = &notices[..] else {
            panic!("{notices:?}");
        };
        let bytes = much.len() as u64 - (1 << 20);
        assert_eq!(notice.strain, Strain::LogSkipped { bytes });
        assert!(!notice.is_over);
        for second in 2..12 {
            assert_eq!(said(&mut observer, second), []);
        }
        let over = said(&mut observer, 20);
        assert_eq!(over.len(), 1);
        assert!(over[0].is_over && over[0].strain == Strain::LogSkipped { bytes });
        assert_eq!(said(&mut observer, 21), []);
    }
}
