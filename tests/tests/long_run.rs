//! A long mixed run: every cause of the selection, six kinds from the field and healthy requests at
//! once, plain and over TLS, through reloads and the crash of a worker. Nothing is mixed up, missed
//! or made up, and the tracer does not grow.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use tests::certificate::Certificate;
use tests::client::{Answer, Front, HOST, Question, Tls};
use tests::container::{ADDRESS, Container};
use tests::expected::Expected;
use tests::holdings::resident;
use tests::process;
use tests::selection::Selection;
use tests::service::Service;
use tests::session::Session;
use tests::site::{Sent, Site};
use tests::stage::{Fault, HEALTHY, Stage};
use tests::tracer::Tracer;
use tests::wait::{PATIENCE, until};

const REQUESTS: usize = 20_000;
const PLAIN: usize = 45;
const OVER_TLS: usize = 5;
/// One request in so many is healthy.
const HEALTHY_EVERY: usize = 2;

const LOGIN: &str = "127.0.0.1:9202";
const CLOSED: &str = "127.0.0.1:9203";

/// Kinds that the selection lacks: nginx's own answers and pages, subrequests, a container. With
/// what has to live for as long.
struct Field {
    faults: Vec<Fault>,
    _login: Service,
    _container: Container,
}

impl Field {
    fn new(stage: &mut Stage) -> Result<Self> {
        let login = "HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n";
        let login = Service::start(&stage.netns, &[LOGIN, "answer", login])?;
        stage.netns.ip("link add br0 type bridge")?;
        stage.netns.ip("addr add 172.31.0.1/24 dev br0")?;
        stage.netns.ip("link set br0 up")?;
        let container = Container::behind(&stage.netns, "br0", ADDRESS)?;
        let _ = writeln!(
            stage.config.server,
            "location = /sorry {{ return 200 sorry; }}\n\
             location = /login-302 {{ internal; proxy_pass http://{LOGIN}; }}\n\
             location = /login-down {{ internal; proxy_pass http://{CLOSED}; }}"
        );
        let refused = |at: &str| Expected::new("no-listener", at, "ECONNREFUSED");
        let returned = Expected::untried("returned-by-config", "").unlogged();
        let page = refused(CLOSED)
            .status(404)
            .then_logged("50x.html\" failed (2: No such file or directory)");
        let hidden = Expected {
            masked: true,
            ..returned.clone().status(200)
        };
        let odd = Expected::untried("response-rejected", "auth request unexpected status: 302");
        let down = refused(CLOSED)
            .status(500)
            .then_logged("auth request unexpected status: 502");
        let guarded = |by: &str| format!("auth_request /{by}; proxy_pass http://{HEALTHY};");
        let faults = vec![
            Fault::location("return 502;", returned),
            Fault::proxy(page, "error_page 502 /50x.html;"),
            Fault::location("error_page 502 =200 /sorry; return 502;", hidden),
            Fault::location(guarded("login-302"), odd.status(500)),
            Fault::location(guarded("login-down"), down),
            Fault::proxy(refused(&format!("{ADDRESS}:9204")).says("container"), ""),
        ];
        Ok(Self {
            faults,
            _login: login,
            _container: container,
        })
    }
}

/// What the senders share.
struct Run<'a> {
    site: &'a Site,
    faults: usize,
    next: AtomicUsize,
}

impl Run<'_> {
    /// The next path, until all are taken.
    fn path(&self) -> Option<String> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        (number < REQUESTS).then(|| {
            if number.is_multiple_of(HEALTHY_EVERY) {
                format!("/ok/{number}")
            } else {
                format!("/fail{}/{number}", number / HEALTHY_EVERY % self.faults)
            }
        })
    }

    fn done(&self) -> usize {
        self.next.load(Ordering::Relaxed).min(REQUESTS)
    }

    /// A connection a request.
    fn plain(&self) -> Sent {
        let mut sent = Sent::default();
        while let Some(path) = self.path() {
            let question = Question::get(path);
            let asked = std::time::Instant::now();
            let status = Front::Http.ask(&question);
            sent.extend(self.sent(question.path, asked, status));
        }
        sent
    }

    /// As many requests a connection as nginx allows.
    fn over_tls(&self) -> Result<Sent> {
        let mut sent = Sent::default();
        let mut session = None;
        while let Some(path) = self.path() {
            let mut open = match session.take() {
                Some(open) => open,
                None => until("a TLS connection", PATIENCE, || {
                    Ok(Session::over(Tls::connect("http/1.1")?).ok())
                })?,
            };
            let asked = std::time::Instant::now();
            let heard = open.ask("GET", &path);
            if heard
                .as_ref()
                .is_ok_and(|heard| heard.whole && heard.value("Connection") != Some("close"))
            {
                session = Some(open);
            }
            sent.extend(self.sent(path, asked, heard.map(|heard| heard.status)));
        }
        Ok(sent)
    }

    fn sent(&self, path: String, asked: std::time::Instant, status: Result<u16>) -> Sent {
        match status {
            Ok(status) => {
                let answer = Answer {
                    path,
                    status,
                    asked,
                };
                self.site.sent(vec![("GET", answer)])
            }
            Err(_) => self.site.unanswered("GET", &path),
        }
    }

    /// Two reloads and a crash while the requests go on, and the tracer's memory at a quarter.
    fn disturb(&self, tracer: u32) -> Result<u64> {
        let after = |share: usize| {
            until("so many requests", PATIENCE * 30, || {
                Ok((self.done() * 100 >= REQUESTS * share).then_some(()))
            })
        };
        after(25)?;
        let memory = resident(tracer)?;
        after(35)?;
        self.site.nginx.reload()?;
        after(50)?;
        let workers = self.site.nginx.worker_pids();
        let crashing = *workers.last().context("no worker")?;
        process::signal(crashing, libc::SIGSEGV);
        until("the crash of a worker", PATIENCE, || {
            Ok((!self.site.nginx.worker_pids().contains(&crashing)).then_some(()))
        })?;
        after(65)?;
        self.site.nginx.reload()?;
        Ok(memory)
    }
}

/// Counts how often each cause was reported where each was due.
fn matrix(site: &Site, sent: &Sent, verdicts: &[Value]) -> String {
    let mut told: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut missing: BTreeMap<&str, isize> = BTreeMap::new();
    for cause in site.due_causes(sent) {
        *missing.entry(cause).or_default() += 1;
    }
    for verdict in verdicts {
        let due = site.due_cause(verdict);
        // A cause without an upstream and without a request cannot be told apart but by its name.
        let name = verdict["cause"].as_str().unwrap_or("?");
        let due = due.or_else(|| missing.keys().copied().find(|cause| *cause == name));
        let due = due.unwrap_or("(none)");
        *missing.entry(due).or_default() -= 1;
        *told.entry((due, name)).or_default() += 1;
    }
    let mut text = format!("{:<22} {:<22} {:>6}\n", "expected", "told", "times");
    for ((due, cause), times) in told {
        let mark = if due == cause { "" } else { "  WRONG" };
        let _ = writeln!(text, "{due:<22} {cause:<22} {times:>6}{mark}");
    }
    for (due, times) in missing
        .into_iter()
        .filter(|(due, times)| *due != "(none)" && *times != 0)
    {
        let _ = writeln!(text, "{due:<22} {:<22} {times:>6}  WRONG", "(nothing)");
    }
    text
}

#[test]
fn twenty_thousand_requests_through_reloads_and_a_crash() -> Result<()> {
    let mut stage = Stage::new()?;
    let certificate = Certificate::new(HOST)?;
    stage.config.server = certificate.fronts();
    stage.config.events = "worker_connections 2048;".into();
    let selection = Selection::new(&stage)?;
    let field = Field::new(&mut stage)?;
    let faults = [&selection.faults[..], &field.faults].concat();
    let count = faults.len();
    let site = stage.start(faults)?;
    let tracer = Tracer::follow(site.nginx.master)?;
    let run = Run {
        site: &site,
        faults: count,
        next: AtomicUsize::new(0),
    };
    let (sent, quarter) = std::thread::scope(|scope| {
        let disturber = scope.spawn(|| run.disturb(tracer.pid()));
        let sent = site.netns.enter(|| {
            std::thread::scope(|scope| {
                let plain: Vec<_> = (0..PLAIN)
                    .map(|_| scope.spawn(|| Ok(run.plain())))
                    .collect();
                let tls: Vec<_> = (0..OVER_TLS)
                    .map(|_| scope.spawn(|| run.over_tls()))
                    .collect();
                let mut sent = Sent::default();
                for sender in plain.into_iter().chain(tls) {
                    sent.extend(sender.join().map_err(|_| anyhow!("a sender panicked"))??);
                }
                Ok(sent)
            })
        });
        let quarter = disturber
            .join()
            .map_err(|_| anyhow!("the disturber panicked"))?;
        Ok::<_, anyhow::Error>((sent?, quarter?))
    })?;
    let whole = resident(tracer.pid())?;
    let log = site.prove(&sent)?;
    let (ended, waited) = site.collect(&sent, tracer)?;
    println!("{}", matrix(&site, &sent, &ended.verdicts));
    println!("the tracer held {quarter} KiB at a quarter of the run, {whole} KiB at its end");
    site.compare(&sent, &log, &ended)?;
    waited?;
    let bound = quarter + quarter / 4 + 8 * 1024;
    ensure!(
        whole < bound,
        "it grew from {quarter} KiB to {whole} KiB, over {bound}"
    );
    Ok(())
}
