//! What nginx's configuration says, asked for many failures and read for few.
//!
//! All workers of a master have one configuration, and each refused connection asks it for names.
//! An answer is kept for [`KEPT`], and for [`SHARE`] times as long as it took: reading takes no
//! more than that part of the observer's time.

use std::{
    collections::HashMap,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};

use crate::{
    event::{Question, fact::Finding},
    nginx,
};

const KEPT: Duration = Duration::from_secs(2);
const SHARE: u32 = 20;
/// Answers kept; beyond, all are read again.
const MOST: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Configured {
    /// By the process whose root has the configuration, and what was asked on behalf of any worker.
    answers: HashMap<(u32, Question), Answer>,
}

#[derive(Debug)]
struct Answer {
    until: Instant,
    finding: Result<Finding, String>,
}

impl Configured {
    /// The answer to one of the three questions about the configuration, read in the root of
    /// `reader`.
    ///
    /// # Errors
    /// The files cannot be read.
    pub(super) fn ask(&mut self, reader: u32, question: &Question) -> Result<Finding> {
        let mut asked = question.clone();
        if let Question::Names { worker, .. }
        | Question::Returns { worker, .. }
        | Question::Block { worker, .. } = &mut asked
        {
            *worker = reader;
        }
        let key = (reader, asked);
        let began = Instant::now();
        if let Some(answer) = self.answers.get(&key)
            && began < answer.until
        {
            return answer.finding.clone().map_err(|why| anyhow!(why));
        }
        let finding = read(reader, question).map_err(|error| format!("{error:#}"));
        let until = Instant::now() + KEPT.max(began.elapsed() * SHARE);
        if self.answers.len() >= MOST {
            self.answers.clear();
        }
        let answer = Answer {
            until,
            finding: finding.clone(),
        };
        self.answers.insert(key, answer);
        finding.map_err(|why| anyhow!(why))
    }
}

fn read(reader: u32, question: &Question) -> Result<Finding> {
    let finding = match question {
        Question::Names { conf, port, .. } => {
            nginx::names(reader, Path::new(conf), *port).map(Finding::Names)
        }
        Question::Returns { conf, status, .. } => {
            nginx::returns(reader, Path::new(conf), *status).map(Finding::Returns)
        }
        Question::Block { conf, name, .. } => {
            nginx::block(reader, Path::new(conf), name).map(Finding::Block)
        }
        _ => return Err(anyhow!("no question about the configuration")),
    };
    finding.context("the configuration")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_of_one_master_share_an_answer() {
        let folder = std::env::temp_dir().join(format!("tracer-asked-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let conf = folder.join("nginx.conf");
        std::fs::write(&conf, "http { server { return 502; } }").unwrap();
        let mut configured = Configured::default();
        let mut lines = |worker| {
            let question = Question::Returns {
                worker,
                conf: conf.display().to_string(),
                status: 502,
            };
            match configured.ask(std::process::id(), &question) {
                Ok(Finding::Returns(view)) => view.lines.len(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(lines(7), 1);
        std::fs::write(&conf, "http { }").unwrap();
        assert_eq!(lines(8), 1, "it was not read again at once");
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(configured.answers.len(), 1);
    }
}
