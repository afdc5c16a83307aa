//! Two nginx in pid namespaces of their own: their workers print the same pid and the same
//! connection numbers, and get the same requests. No verdict takes a word from the other's log.

use std::collections::BTreeSet;
use std::io::{Read, Write};

use anyhow::{Context, Result, ensure};
use tests::client::{dial, status};
use tests::folder::Folder;
use tests::http2;
use tests::netns::Netns;
use tests::nginx::{Config, Nginx};
use tests::process::children;
use tests::tracer::Tracer;

/// Requests a container and protocol: 2,000 in all.
const REQUESTS: usize = 500;

struct Container {
    nginx: Nginx,
    netns: Netns,
    host: &'static str,
    _image: Folder,
}

impl Container {
    fn start(host: &'static str) -> Result<Self> {
        let netns = Netns::new()?;
        let image = Folder::new()?;
        let config = Config {
            workers: 1,
            server: "listen 127.0.0.1:81 http2;\nlocation / { proxy_pass http://127.0.0.1:9; }\n"
                .into(),
            ..Config::default()
        };
        let nginx = Nginx::start_contained(&netns, &config, image.path(), |_| Ok(()))?;
        Ok(Self {
            nginx,
            netns,
            host,
            _image: image,
        })
    }

    fn worker(&self) -> Result<u32> {
        let workers = children(self.nginx.master);
        workers.first().copied().context("no worker")
    }

    /// The worker's pid as it prints it.
    fn printed(&self) -> Result<u32> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.worker()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let own = line.and_then(|line| line.split_whitespace().last());
        Ok(own.context("no NSpid")?.parse()?)
    }

    fn ask(&self) -> Result<()> {
        self.netns.enter(|| {
            for number in 0..REQUESTS {
                let mut stream = dial("127.0.0.1:80")?;
                write!(
                    stream,
                    "GET /{number} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
                    self.host
                )?;
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer)?;
                ensure!(status(&answer)? == 502, "request {number} was served");
                let path = format!("/{number}");
                let status = http2::get(&mut dial("127.0.0.1:81")?, self.host, &path)?;
                ensure!(status == 502, "request {number} over HTTP/2 was served");
            }
            Ok(())
        })
    }

    /// What nginx logged: connection numbers.
    fn connections(&self) -> Result<BTreeSet<u64>> {
        let log = self.nginx.log()?;
        Ok(log.iter().map(|line| line.connection).collect())
    }
}

#[test]
fn no_word_is_the_other_container_s() -> Result<()> {
    let containers = [Container::start("a.test")?, Container::start("b.test")?];
    let [a, b] = &containers;
    ensure!(
        a.printed()? == b.printed()?,
        "the workers print different pids"
    );
    let other = b.nginx.master.to_string();
    let tracer = Tracer::follow_with(a.nginx.master, &["--master", &other])?;
    std::thread::scope(|scope| {
        let asking = containers.each_ref().map(|one| scope.spawn(|| one.ask()));
        for one in asking {
            one.join()
                .map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        anyhow::Ok(())
    })?;
    let shared = a.connections()?.intersection(&b.connections()?).count();
    ensure!(shared >= REQUESTS, "only {shared} connection numbers agree");

    tracer.verdict_lines(4 * REQUESTS)?;
    let ended = tracer.stop(libc::SIGINT)?;
    for container in &containers {
        let worker = container.worker()?;
        let mut told = BTreeSet::new();
        for verdict in &ended.verdicts {
            if verdict["worker"] != worker {
                continue;
            }
            let request = &verdict["request"];
            ensure!(
                request["host"] == container.host && request["client"] == "127.0.0.1",
                "not a word of {}'s: {verdict}",
                container.host
            );
            let line = request["line"].as_str().context("no request line")?;
            ensure!(told.insert(line.to_owned()), "told twice: {verdict}");
            let doubts = verdict["evidence"].as_array().into_iter().flatten();
            ensure!(
                doubts.clone().all(|one| one["event"] != "log"),
                "nothing is doubtful: {verdict}"
            );
            ensure!(
                verdict["cause"] == "no-listener" && verdict["confidence"] == "proven",
                "{verdict}"
            );
        }
        for number in 0..REQUESTS {
            for version in ["1.1", "2.0"] {
                let line = format!("GET /{number} HTTP/{version}");
                ensure!(
                    told.contains(&line),
                    "{}: no verdict on {line}",
                    container.host
                );
            }
        }
        ensure!(told.len() == 2 * REQUESTS, "{} requests told", told.len());
    }
    Ok(())
}
