//! What the host shows, seen by a worker: the observer's answers.

use std::net::SocketAddr;

use crate::{
    event::{
        Event, Question, Time,
        fact::{self, DescriptorsView},
    },
    source::{clock, host::Observer},
};

/// What the host shows, asked from a worker's view.
pub(super) struct Host {
    observer: Observer,
    pub(super) viewer: u32,
    asked: Time,
}

impl Host {
    pub(super) fn new(viewer: u32) -> Self {
        Self {
            observer: Observer::new(Vec::new()),
            viewer,
            asked: clock::now(),
        }
    }

    /// Has what comes next asked of the host as it is then.
    pub(super) fn refresh(&mut self) {
        self.asked = clock::now();
    }

    fn ask(&mut self, question: &Question) -> Option<fact::Finding> {
        let events = self.observer.answer(question, self.asked, clock::now());
        events.into_iter().find_map(|event| match event {
            Event::Fact(fact) => fact.finding.ok(),
            _ => None,
        })
    }

    /// Who listens on an address.
    pub(super) fn listener(&mut self, address: SocketAddr) -> Option<fact::ListenerView> {
        let question = Question::Listener {
            worker: self.viewer,
            address,
        };
        match self.ask(&question) {
            Some(fact::Finding::Listener(view)) => Some(view),
            _ => None,
        }
    }

    /// How the ports towards an address are used.
    pub(super) fn ports(&mut self, remote: SocketAddr) -> Option<fact::PortsView> {
        let question = Question::Ports {
            worker: self.viewer,
            remote,
        };
        match self.ask(&question) {
            Some(fact::Finding::Ports(view)) => Some(view),
            _ => None,
        }
    }

    /// What is at a path.
    pub(super) fn path(&mut self, path: &str) -> Option<fact::UnixPathView> {
        let question = Question::UnixPath {
            worker: self.viewer,
            path: path.to_owned(),
        };
        match self.ask(&question) {
            Some(fact::Finding::UnixPath(view)) => Some(*view),
            _ => None,
        }
    }
}

/// Asks once, from the view that the question names.
pub(super) fn ask(question: &Question) -> Option<fact::Finding> {
    let events = Observer::new(Vec::new()).answer(question, Time(1), Time(1));
    events.into_iter().find_map(|event| match event {
        Event::Fact(fact) => fact.finding.ok(),
        _ => None,
    })
}

/// How many descriptors a process has, and may have.
pub(super) fn descriptors(pid: u32) -> Option<DescriptorsView> {
    match ask(&Question::Descriptors { worker: pid }) {
        Some(fact::Finding::Descriptors(view)) => Some(view),
        _ => None,
    }
}
