//! Two nginx in network namespaces of their own, whose connections have the same addresses and
//! ports at the same time, as two containers' on loopback do: what happens to the one's is not
//! taken for the other's.

use std::io::{Read, Write};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::client::{dial, status};
use tests::faults::firewall;
use tests::netns::Netns;
use tests::nginx::{Config, Nginx};
use tests::process::children;
use tests::service::{Fate, Service};
use tests::tracer::Tracer;
use tests::veth;

/// Requests that each is sent.
const REQUESTS: usize = 300;
/// All ports that nginx connects from: mostly the other has the same one in use.
const PORTS: &str = "40000 40001";

struct One {
    netns: Netns,
    nginx: Nginx,
}

impl One {
    fn start(netns: Netns, upstream: &str) -> Result<Self> {
        netns.sysctl("ipv4/ip_local_port_range", PORTS)?;
        let config = Config {
            workers: 1,
            server: format!("location / {{ proxy_pass http://{upstream}; }}\n"),
            ..Config::default()
        };
        let nginx = Nginx::start(&netns, &config, |_| Ok(()))?;
        Ok(Self { netns, nginx })
    }

    fn ask(&self, expected: u16) -> Result<()> {
        self.netns.enter(|| {
            for number in 0..REQUESTS {
                let mut stream = dial("127.0.0.1:80")?;
                write!(
                    stream,
                    "GET /{number} HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n"
                )?;
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer)?;
                let got = status(&answer)?;
                ensure!(got == expected, "request {number}: {got}");
            }
            Ok(())
        })
    }
}

/// What the verdicts on each are, as `cause confidence`; a status of 200 has none.
fn verdicts(pair: [(One, u16); 2]) -> Result<[Vec<String>; 2]> {
    let [(a, _), (b, _)] = &pair;
    let other = b.nginx.master.to_string();
    let tracer = Tracer::follow_with(a.nginx.master, &["--master", &other])?;
    let workers = [a, b].map(|one| children(one.nginx.master));
    std::thread::scope(|scope| {
        let asking = pair
            .each_ref()
            .map(|(one, expected)| scope.spawn(|| one.ask(*expected)));
        for one in asking {
            one.join()
                .map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        anyhow::Ok(())
    })?;
    let failing = pair.iter().filter(|(_, status)| *status != 200).count();
    tracer.verdict_lines(failing * REQUESTS)?;
    let ended = tracer.stop(libc::SIGINT)?;
    let word = |verdict: &Value, member: &str| verdict[member].as_str().map(str::to_owned);
    let mut told = [Vec::new(), Vec::new()];
    for verdict in &ended.verdicts {
        let worker = verdict["worker"].as_u64().context("no worker")?;
        let whose = workers
            .iter()
            .position(|pids| pids.iter().any(|pid| u64::from(*pid) == worker));
        let cause = word(verdict, "cause").context("no cause")?;
        let is_skipped = verdict["evidence"]
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one["event"] == "skipped"));
        // The kernel skipped runs of a hook meanwhile, and the verdict says so.
        let confidence = match word(verdict, "confidence").unwrap_or_default() {
            inferred if is_skipped && inferred == "inferred" => "skipped".to_owned(),
            confidence => confidence,
        };
        told[whose.context("nobody's verdict")?].push(format!("{cause} {confidence}"));
    }
    for ((_, status), told) in pair.iter().zip(&told) {
        let expected = if *status == 200 { 0 } else { REQUESTS };
        ensure!(told.len() == expected, "{} verdicts", told.len());
    }
    Ok(told)
}

/// How often each is said, for a test's failure.
fn counts(told: &[String]) -> std::collections::BTreeMap<&str, usize> {
    let mut counts = std::collections::BTreeMap::new();
    for one in told {
        *counts.entry(one.as_str()).or_insert(0) += 1;
    }
    counts
}

/// Every verdict is its own cause, proven but for one in ten: where a port is used again at once,
/// as here, it may not be known which of its connections a backend's end was of. `None` has none.
fn check(pair: [(One, Option<&str>); 2]) -> Result<()> {
    let causes = pair.each_ref().map(|(_, cause)| *cause);
    let told = verdicts(pair.map(|(one, cause)| (one, cause.map_or(200, |_| 502))))?;
    let own = causes.iter().zip(&told).all(|(cause, told)| {
        let cause = cause.unwrap_or_default();
        let [proven, inferred, skipped] =
            ["proven", "inferred", "skipped"].map(|how| format!("{cause} {how}"));
        let count = |what: &String| told.iter().filter(|one| *one == what).count();
        let (sure, less) = (count(&proven), count(&inferred));
        let all = sure + less + count(&skipped) == told.len();
        all && sure * 10 >= (sure + less) * 9
    });
    let skipped = told.iter().flatten().filter(|one| one.ends_with("skipped"));
    let skipped = skipped.count();
    if skipped > 0 {
        let test = std::thread::current();
        let reason = format!("the kernel skipped runs of a hook, as {skipped} verdicts say");
        tests::kernel::lesser(test.name().unwrap_or_default(), &reason);
    }
    let told = told.each_ref().map(|told| counts(told));
    ensure!(own, "{causes:?}: {told:?}");
    Ok(())
}

const HERE: &str = "127.0.0.1:9001";

fn nobody_listens() -> Result<One> {
    One::start(Netns::new()?, HERE)
}

fn rejected(with: &str) -> Result<One> {
    let netns = Netns::new()?;
    firewall::rule(&netns, "output", &format!("tcp dport 9001 reject {with}"))?;
    One::start(netns, HERE)
}

fn served(words: &[&str]) -> Result<(One, Service)> {
    let netns = Netns::new()?;
    let words = [&[HERE], words].concat();
    let service = Service::start_with(&netns, &words, Fate::Lives, |_| Ok(()))?;
    Ok((One::start(netns, HERE)?, service))
}

#[test]
fn a_closed_port_and_a_reject_rule() -> Result<()> {
    for with in ["", "with tcp reset"] {
        check([
            (nobody_listens()?, Some("no-listener")),
            (rejected(with)?, Some("firewall-reject")),
        ])?;
    }
    Ok(())
}

#[test]
fn two_closed_ports() -> Result<()> {
    check([
        (nobody_listens()?, Some("no-listener")),
        (nobody_listens()?, Some("no-listener")),
    ])
}

#[test]
fn a_closed_port_and_a_backend() -> Result<()> {
    let (healthy, _service) = served(&["answer", "HTTP/1.1 200 OK\r\n\r\nhello"])?;
    check([(nobody_listens()?, Some("no-listener")), (healthy, None)])?;
    let (reset, _service) = served(&["reset", ""])?;
    check([
        (nobody_listens()?, Some("no-listener")),
        (reset, Some("backend-reset")),
    ])
}

#[test]
fn a_backend_that_dies_and_one_that_resets() -> Result<()> {
    let (dies, _dying) = served(&["segv", "--prefork", "2"])?;
    let (resets, _resetting) = served(&["reset", ""])?;
    check([
        (dies, Some("backend-died")),
        (resets, Some("backend-reset")),
    ])
}

#[test]
fn a_backend_that_dies_and_one_that_closes() -> Result<()> {
    let (dies, _dying) = served(&["segv", "--prefork", "2"])?;
    let (closes, _closing) = served(&["answer", ""])?;
    check([
        (dies, Some("backend-died")),
        (closes, Some("backend-closed-early")),
    ])
}

/// A cable to a namespace of its own, with the same addresses as any other's.
fn cabled(rule: Option<&str>) -> Result<(One, Netns)> {
    let netns = Netns::new()?;
    let far = veth::connect(&netns)?;
    if let Some(rule) = rule {
        firewall::rule(&far, "input", rule)?;
    }
    let upstream = format!("{}:9001", veth::FAR);
    Ok((One::start(netns, &upstream)?, far))
}

/// Across cables, each to a namespace of its own: what happens there shows nothing of whose it is.
/// It may stay unexplained.
#[test]
fn across_two_cables_with_the_same_addresses() -> Result<()> {
    let (closed, _far) = cabled(None)?;
    let (rejected, _other) = cabled(Some("tcp dport 9001 reject with tcp reset"))?;
    let told = verdicts([(closed, 502), (rejected, 502)])?;
    let crossed = |told: &[String], other: &str| told.iter().any(|one| one.starts_with(other));
    let shown = told.each_ref().map(|told| counts(told));
    ensure!(
        !crossed(&told[0], "firewall-reject") && !crossed(&told[1], "no-listener"),
        "{shown:?}"
    );
    Ok(())
}

/// A container that takes the place of another has its address, and a namespace of its own: what
/// its upstream's namespace shows is its.
#[test]
fn across_a_cable_after_another_with_the_same_addresses() -> Result<()> {
    let (before, _far) = cabled(None)?;
    let (after, _other) = cabled(None)?;
    let other = after.nginx.master.to_string();
    let tracer = Tracer::follow_with(before.nginx.master, &["--master", &other])?;
    before.ask(502)?;
    drop(before);
    after.ask(502)?;
    tracer.verdict_lines(2 * REQUESTS)?;
    let ended = tracer.stop(libc::SIGINT)?;
    for verdict in &ended.verdicts {
        ensure!(
            verdict["cause"] == "no-listener" && verdict["confidence"] == "proven",
            "{verdict}"
        );
    }
    ensure!(ended.verdicts.len() == 2 * REQUESTS, "not all are told");
    Ok(())
}
