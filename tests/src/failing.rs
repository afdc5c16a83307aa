//! An nginx whose requests all fail, at an upstream that no other test has: by it a test knows its
//! own verdicts where tracer follows every nginx of the host.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, anyhow, ensure};

use crate::client::{self, Answer, Front, Question};
use crate::netns::Netns;
use crate::nginx::{Config, Form, Nginx};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A network namespace, the nginx to be started in it, and the requests that it fails.
#[derive(Debug)]
pub struct Failing {
    /// Where it runs.
    pub netns: Netns,
    /// Its configuration.
    pub config: Config,
    /// Where nothing listens.
    pub upstream: String,
    asked: AtomicU32,
}

impl Failing {
    /// Makes the namespace; `form` is how nginx will be started.
    pub fn new(form: Form) -> Result<Self> {
        Self::within(Netns::new()?, form, &upstream())
    }

    /// The same in a namespace of its own, with the upstream of another.
    pub fn like(other: &Self) -> Result<Self> {
        let mut same = Self::within(Netns::new()?, other.config.form, &other.upstream)?;
        same.config = other.config.clone();
        same.asked = AtomicU32::new(1000 * COUNT.fetch_add(1, Ordering::Relaxed));
        Ok(same)
    }

    fn within(netns: Netns, form: Form, upstream: &str) -> Result<Self> {
        let config = Config {
            form,
            server: format!("location / {{ proxy_pass http://{upstream}; }}"),
            ..Config::default()
        };
        Ok(Self {
            netns,
            config,
            upstream: upstream.to_owned(),
            asked: AtomicU32::new(0),
        })
    }

    /// Starts nginx and waits until it answers.
    pub fn start(&self) -> Result<Nginx> {
        Nginx::start(&self.netns, &self.config, |_| Ok(()))
    }

    /// Sends so many requests, one after another.
    pub fn send(&self, count: usize) -> Result<Vec<Answer>> {
        let paths = self.paths(count);
        let answers = self.netns.enter(|| {
            let questions = paths.iter().map(|path| Question::get(path.clone()));
            client::send(Front::Http, &questions.collect::<Vec<_>>(), 1)
        })?;
        failed(answers)
    }

    /// Has `start` start nginx, and sends so many requests from the moment that its port is open.
    pub fn send_at_once<T>(
        &self,
        count: usize,
        start: impl FnOnce() -> Result<T>,
    ) -> Result<(T, Vec<Answer>)> {
        let paths = self.paths(count);
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| self.netns.enter(|| client::eager(&paths)));
            let started = start();
            let answers = sender
                .join()
                .map_err(|_| anyhow!("the client panicked"))
                .flatten();
            Ok((started?, failed(answers?)?))
        })
    }

    /// Paths that no other request has.
    fn paths(&self, count: usize) -> Vec<String> {
        let first = self.asked.fetch_add(count as u32, Ordering::Relaxed);
        (0..count as u32)
            .map(|number| format!("/{}", first + number))
            .collect()
    }
}

/// All of them answered with 502.
fn failed(answers: Vec<Answer>) -> Result<Vec<Answer>> {
    for answer in &answers {
        ensure!(
            answer.status == 502,
            "GET {} got {}",
            answer.path,
            answer.status
        );
    }
    Ok(answers)
}

/// An address and port of loopback that nobody else uses.
fn upstream() -> String {
    let pid = std::process::id();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let [_, high, middle, low] = pid.to_be_bytes();
    format!("127.{}.{middle}.{low}:{}", 64 + high % 64, 9000 + count)
}
