//! The host observer: asks the host what the correlator wants to know, at the moment it wants to know it.
//!
//! Every answer is bounded in memory and time (a fraction of a second at worst, milliseconds as a rule) and is given
//! from a thread that may block. Nothing on the host is changed, and nothing stays open in another namespace. What
//! cannot be told is an `Err` in words, never a guess.

mod listener;
mod netlink;
mod owner;
mod route;
mod sock_diag;

use anyhow::{Result, bail};

use self::owner::Owners;
use crate::event::{Event, Fact, Question, Time, fact::Finding};

/// Answers questions about this host.
#[derive(Debug, Default)]
pub struct Observer {
    owners: Owners,
}

impl Observer {
    /// One that remembers nothing yet.
    #[must_use]
    pub fn new(_e: Vec<std::path::PathBuf>) -> Self {
        Self::default()
    }
    pub fn follow(&mut self, _: u32) {}
    pub fn forget(&mut self, _: u32) {}

    /// Answers now, in the order of the stream: the log lines that a [`Question::Log`] brought, then the fact.
    /// `now` is the boot time at which it is asked, and becomes the time of all of them.
    pub fn answer(&mut self, question: &Question, now: Time) -> Vec<Event> {
        let finding = self
            .find(question, now)
            .map_err(|error| format!("{error:#}"));
        vec![Event::Fact(Fact {
            at: now,
            question: question.clone(),
            finding,
        })]
    }

    fn find(&mut self, question: &Question, now: Time) -> Result<Finding> {
        match question {
            Question::Listener { worker, address } => {
                listener::view(*worker, *address, &mut self.owners, now).map(Finding::Listener)
            }
            _ => bail!("this version does not ask the host that"),
        }
    }
}
