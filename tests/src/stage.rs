//! The one fixture that most tests use: a namespace, a healthy backend, nginx with faulty and
//! healthy locations, the tracer on it, mixed requests, and the check of every verdict.
//!
//! A check fails on: a client that did not get the expected status, an error log that shows another
//! fault than the intended one, a failed request without a verdict or with two, a verdict that
//! differs anywhere from what was expected, a verdict on a healthy request, a tracer that ends with
//! a failure.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use crate::backend::{Backend, Protocol};
use crate::client::{self, Answer, Front, HOST};
use crate::expected::Expected;
use crate::netns::Netns;
use crate::nginx::{Config, LogLine, Nginx};
use crate::tracer::{Ended, Line, Tracer};

/// Where the healthy backend listens.
pub const HEALTHY: &str = "127.0.0.1:8000";

/// A location of nginx that fails, and how.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The directives of the location.
    pub location: String,
    /// Directives of `http` that it needs.
    pub http: String,
    /// The verdict on each of its requests.
    pub expected: Expected,
}

impl Fault {
    /// `proxy_pass` to the expected upstream; `directives` come along.
    pub fn proxy(expected: Expected, directives: &str) -> Self {
        let upstream = expected.upstream.clone().unwrap_or_default();
        Self::location(
            format!("proxy_pass http://{upstream}; {directives}"),
            expected,
        )
    }

    /// A location with these directives.
    pub fn location(location: impl Into<String>, expected: Expected) -> Self {
        Self {
            location: location.into(),
            http: String::new(),
            expected,
        }
    }

    /// `proxy_pass` to a group of these servers; `name` has to be the test's only one.
    pub fn group(name: &str, servers: &[&str], expected: Expected) -> Self {
        let servers: String = servers
            .iter()
            .map(|server| format!("server {server} max_fails=0; "))
            .collect();
        Self {
            location: format!("proxy_pass http://{name};"),
            http: format!("upstream {name} {{ zone {name} 64k; {servers} }}\n"),
            expected,
        }
    }
}

/// How much is sent.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Failing requests for each fault.
    pub failing: usize,
    /// Healthy requests.
    pub healthy: usize,
    /// Requests at a time.
    pub concurrency: usize,
    /// How the client reaches nginx.
    pub front: Front,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            failing: 5,
            healthy: 5,
            concurrency: 2,
            front: Front::Http,
        }
    }
}

type Prepare = Box<dyn FnOnce(&mut Command) -> Result<()>>;

/// A namespace with a healthy backend, and the nginx to be started in it.
pub struct Stage {
    /// Where everything of the test happens.
    pub netns: Netns,
    /// nginx's configuration but for the faults' locations.
    pub config: Config,
    /// Directives of the healthy location.
    pub healthy: String,
    image: Option<PathBuf>,
    prepare: Prepare,
    _backend: Backend,
}

impl Stage {
    /// Makes the namespace and the healthy backend.
    pub fn new() -> Result<Self> {
        let netns = Netns::new()?;
        Ok(Self {
            _backend: Backend::new(&netns, HEALTHY, Protocol::Http)?,
            netns,
            config: Config::default(),
            healthy: format!("proxy_pass http://{HEALTHY};"),
            image: None,
            prepare: Box::new(|_| Ok(())),
        })
    }

    /// Has `prepare` look at nginx's command before it starts.
    pub fn prepare(&mut self, prepare: impl FnOnce(&mut Command) -> Result<()> + 'static) {
        self.prepare = Box::new(prepare);
    }

    /// Starts nginx in pid and mount namespaces of its own, its binary in a file system that only
    /// they have, mounted on the folder `image`.
    pub fn contain(&mut self, image: &Path) {
        self.image = Some(image.to_owned());
    }

    /// Starts nginx with these faults, not the tracer.
    pub fn start(mut self, faults: Vec<Fault>) -> Result<Site> {
        let config = &mut self.config;
        let _ = writeln!(config.server, "location /ok/ {{ {} }}", self.healthy);
        for (index, fault) in faults.iter().enumerate() {
            config.http.push_str(&fault.http);
            let location = &fault.location;
            let _ = writeln!(config.server, "location /fail{index}/ {{ {location} }}");
        }
        let nginx = match &self.image {
            Some(image) => Nginx::start_contained(&self.netns, config, image, self.prepare)?,
            None => Nginx::start(&self.netns, config, self.prepare)?,
        };
        Ok(Site {
            nginx,
            netns: self.netns,
            faults,
            contained: self.image.is_some(),
            sent: AtomicUsize::new(0),
            _backend: self._backend,
        })
    }

    /// Starts nginx with these faults and the tracer, sends the load and checks every verdict,
    /// which it gives.
    pub fn check_with(self, faults: Vec<Fault>, load: Load) -> Result<Vec<Value>> {
        let site = self.start(faults)?;
        let tracer = Tracer::follow(site.nginx.master)?;
        let sent = site.send(load)?;
        site.check(&sent, tracer)
    }

    /// [`Stage::check_with`] the usual load.
    pub fn check(self, faults: Vec<Fault>) -> Result<Vec<Value>> {
        self.check_with(faults, Load::default())
    }
}

/// A running nginx with its faults.
pub struct Site {
    /// The nginx.
    pub nginx: Nginx,
    /// Where it runs.
    pub netns: Netns,
    faults: Vec<Fault>,
    contained: bool,
    sent: AtomicUsize,
    _backend: Backend,
}

/// Requests that were sent and answered.
#[derive(Debug, Default)]
pub struct Sent {
    /// Each answer with the index of its fault, or `None` for a healthy one.
    answers: Vec<(Answer, Option<usize>)>,
    /// The request line of each path.
    lines: HashMap<String, String>,
    client: &'static str,
}

impl Sent {
    /// Adds what was sent after.
    pub fn extend(&mut self, more: Self) {
        self.answers.extend(more.answers);
        self.lines.extend(more.lines);
        self.client = more.client;
    }

    /// The answers to requests that failed.
    pub fn failed(&self) -> impl Iterator<Item = &Answer> {
        let failed = self.answers.iter().filter(|(_, fault)| fault.is_some());
        failed.map(|(answer, _)| answer)
    }
}

impl Site {
    /// Sends the load, each request with a path of its own, failing and healthy ones in turn.
    pub fn send(&self, load: Load) -> Result<Sent> {
        let rounds = load.failing.max(load.healthy);
        let first = self.sent.fetch_add(rounds, Ordering::Relaxed);
        // Both kinds spread evenly over the rounds.
        let due =
            |count: usize, round: usize| (round + 1) * count / rounds > round * count / rounds;
        let mut paths = Vec::new();
        for round in 0..rounds {
            let id = first + round;
            if due(load.failing, round) {
                paths.extend((0..self.faults.len()).map(|fault| format!("/fail{fault}/{id}")));
            }
            if due(load.healthy, round) {
                paths.push(format!("/ok/{id}"));
            }
        }
        let answers = self
            .netns
            .enter(|| client::send(load.front, &paths, load.concurrency))?;
        let answers = answers
            .into_iter()
            .map(|answer| {
                let fault = (0..self.faults.len())
                    .find(|index| answer.path.starts_with(&format!("/fail{index}/")));
                (answer, fault)
            })
            .collect();
        let lines = paths
            .into_iter()
            .map(|path| (path.clone(), load.front.line(&path)))
            .collect();
        Ok(Sent {
            answers,
            lines,
            client: load.front.client(),
        })
    }

    /// Checks the clients' statuses and nginx's error log: the faults are the intended ones.
    pub fn prove(&self, sent: &Sent) -> Result<HashMap<String, Vec<LogLine>>> {
        let mut log: HashMap<String, Vec<LogLine>> = HashMap::new();
        for line in self.nginx.log()? {
            log.entry(line.request.clone()).or_default().push(line);
        }
        for (answer, fault) in &sent.answers {
            let logged = log.get(&sent.lines[&answer.path]);
            let messages: Vec<&str> = logged
                .into_iter()
                .flatten()
                .map(|line| line.message.as_str())
                .collect();
            let (status, expected) = match fault {
                Some(index) => {
                    let expected = &self.faults[*index].expected;
                    (expected.status, expected.logged.clone())
                }
                None => (200, Vec::new()),
            };
            ensure!(
                answer.status == status,
                "GET {} got {}, not {status}; nginx logged {messages:?}",
                answer.path,
                answer.status
            );
            ensure!(
                messages.len() == expected.len()
                    && messages
                        .iter()
                        .zip(&expected)
                        .all(|(is, want)| is.contains(want)),
                "GET {}: nginx logged {messages:?}, the fault should give {expected:?}",
                answer.path
            );
        }
        Ok(log)
    }

    /// Proves the faults, waits for the verdicts, ends the tracer and checks all of them.
    pub fn check(&self, sent: &Sent, tracer: Tracer) -> Result<Vec<Value>> {
        let log = self.prove(sent)?;
        // What is missing is told below, with the requests' names.
        let waited = tracer.verdict_lines(sent.failed().count());
        let ended = tracer.stop(libc::SIGINT)?;
        self.compare(sent, &log, &ended)
            .map_err(|error| match waited {
                Ok(_) => error,
                Err(waited) => error.context(waited),
            })?;
        Ok(ended.verdicts)
    }

    /// Waits until each failed request has a line, and gives the lines.
    pub fn verdict_lines(&self, sent: &Sent, tracer: &Tracer) -> Result<Vec<Line>> {
        tracer.verdict_lines(sent.failed().count())
    }

    fn compare(
        &self,
        sent: &Sent,
        log: &HashMap<String, Vec<LogLine>>,
        ended: &Ended,
    ) -> Result<()> {
        ensure!(
            ended.status.code() == Some(0),
            "the tracer ended with {}: {}",
            ended.status,
            ended.stderr
        );
        let mut verdicts: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        for verdict in &ended.verdicts {
            let line = verdict["request"]["line"].as_str().unwrap_or("no request");
            verdicts.entry(line).or_default().push(verdict);
        }
        let mut wrong = Vec::new();
        for (answer, fault) in &sent.answers {
            let line = &sent.lines[&answer.path];
            let found = verdicts.remove(line.as_str()).unwrap_or_default();
            match (fault, found.as_slice()) {
                (None, []) => {}
                (Some(fault), [verdict]) => {
                    let mut differences = self.faults[*fault].expected.differences(verdict);
                    differences.extend(self.own(sent, verdict, &log[line][0]));
                    if !differences.is_empty() {
                        let differences = differences.join("\n    ");
                        wrong.push(format!("{line}\n    {differences}\n    {verdict}"));
                    }
                }
                (None, found) => {
                    wrong.push(format!("{line} is healthy, yet has {}", listed(found)));
                }
                (Some(_), found) => wrong.push(format!("{line} has {}", listed(found))),
            }
        }
        for (line, strange) in verdicts {
            let strange = listed(&strange);
            wrong.push(format!(
                "a request that was not sent, {line}, has {strange}"
            ));
        }
        if !wrong.is_empty() {
            bail!(
                "{} of {} requests judged wrongly:\n{}\nthe tracer said: {}",
                wrong.len(),
                sent.answers.len(),
                // The first tell enough.
                wrong[..wrong.len().min(4)].join("\n"),
                ended.stderr
            );
        }
        Ok(())
    }

    /// Compares what each request has of its own with nginx's error log.
    fn own(&self, sent: &Sent, verdict: &Value, logged: &LogLine) -> Vec<String> {
        let mut differences = Vec::new();
        let mut same = |name: &str, expected: Value, actual: &Value| {
            if expected != *actual {
                differences.push(format!("{name}: expected {expected}, not {actual}"));
            }
        };
        same(
            "connection",
            logged.connection.into(),
            &verdict["connection"],
        );
        let request = &verdict["request"];
        same("client", sent.client.into(), &request["client"]);
        same("host", HOST.into(), &request["host"]);
        if self.contained {
            // A container's nginx logs its own numbering of processes, we want the host's.
            let workers = self.nginx.worker_pids();
            let known = workers.iter().any(|pid| verdict["worker"] == *pid);
            same("worker is the host's", true.into(), &known.into());
        } else {
            same("worker", logged.worker.into(), &verdict["worker"]);
        }
        let time = verdict["time"].as_str().unwrap_or_default();
        if time.len() < 20 || !time.ends_with('Z') || time.as_bytes()[10] != b'T' {
            differences.push(format!("time: {time:?} is no RFC 3339 time in UTC"));
        }
        differences
    }
}

fn listed(verdicts: &[&Value]) -> String {
    let first = verdicts
        .first()
        .map_or_else(String::new, |verdict| format!(", first {verdict}"));
    format!("{} verdicts{first}", verdicts.len())
}
