//! nginx that come and go, each in a network namespace of its own: ICMP is heard in each, and no
//! namespace and no descriptor is kept when its nginx is gone.

use std::fs;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, ScopedJoinHandle};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use tests::client;
use tests::expected::Expected;
use tests::faults::firewall;
use tests::folder::Folder;
use tests::netns::Netns;
use tests::nginx::{Config, Nginx};
use tests::stage::{Fault, Load, Stage};
use tests::tracer::{self, Tracer};
use tests::tun::{self, Host, Tun};
use tests::veth;
use tests::wait::{PATIENCE, until};

/// More than tracer once listened to.
const NGINX: usize = 40;
/// After so many all that is opened once is open.
const FIRST: usize = 4;

/// A process that waits to become nginx, and the thread that it ends with.
struct Waiting<'scope> {
    /// The far interface of a cable into nginx's namespace: gone with that.
    near: Netns,
    far: Netns,
    master: u32,
    go: Sender<()>,
    ready: Receiver<()>,
    thread: ScopedJoinHandle<'scope, Result<()>>,
}

fn config() -> Config {
    Config {
        workers: 1,
        server: "location /fail/ { proxy_pass http://[::1]:9002; }\n".to_owned(),
        ..Config::default()
    }
}

impl<'scope> Waiting<'scope> {
    fn new(scope: &'scope thread::Scope<'scope, '_>) -> Result<Self> {
        let near = Netns::new()?;
        let far = veth::connect(&near)?;
        firewall::rule(&far, "output", "tcp dport 9002 reject")?;
        let (say, said) = channel();
        let (go, may_go): (Sender<()>, Receiver<()>) = channel();
        let (is_ready, ready) = channel();
        let inside = far.clone();
        let thread = scope.spawn(move || {
            let before = |master: u32| -> Result<()> {
                say.send(master)?;
                may_go.recv().context("the test has ended")
            };
            let nginx = Nginx::start_after(&inside, &config(), before)?;
            is_ready.send(())?;
            // Until the other side is dropped.
            let _ = may_go.recv();
            drop(nginx);
            Ok(())
        });
        Ok(Self {
            near,
            far,
            master: said.recv().context("no process that waits")?,
            go,
            ready,
            thread,
        })
    }

    /// It becomes nginx, a request of it fails, and it goes; gives that request's verdict.
    fn live(self, tracer: &Tracer, number: usize) -> Result<Value> {
        self.go.send(())?;
        let path = format!("/fail/{number}/");
        let verdict = match self.ready.recv() {
            // It is followed some time after its start, maybe in the midst of a request.
            Ok(()) => until("a verdict", PATIENCE, || {
                self.far.enter(|| client::get(&path))?;
                let found = tracer.verdict_lines(0)?;
                let found = found
                    .iter()
                    .find(|line| line.text.contains(&path) && !line.text.contains("unexplained"));
                Ok(found.map(|line| serde_json::from_str(&line.text)))
            })
            .and_then(|verdict| Ok(verdict?)),
            Err(_) => Err(anyhow!("nginx did not start")),
        };
        drop((self.go, self.far));
        let ended = self.thread.join();
        ended.map_err(|_| anyhow!("nginx's thread panicked"))??;
        verdict
    }
}

/// Waits until the far interface of the cable is gone: the kernel ends it with its namespace.
fn is_gone(near: &Netns) -> Result<()> {
    until("the end of a namespace", PATIENCE, || {
        let devices = near.enter(|| Ok(fs::read_to_string("/proc/thread-self/net/dev")?))?;
        Ok((!devices.contains("near:")).then_some(()))
    })
}

fn descriptors(pid: u32) -> Result<Vec<String>> {
    let mut targets: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))?
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .map(|target| target.display().to_string())
        .collect();
    targets.sort();
    Ok(targets)
}

#[test]
fn nginx_in_fresh_namespaces_come_and_go() -> Result<()> {
    let folder = Folder::new()?;
    thread::scope(|scope| {
        let waiting: Vec<Waiting<'_>> = (0..NGINX)
            .map(|_| Waiting::new(scope))
            .collect::<Result<_>>()?;
        let mut command: Command = tracer::record(waiting[0].master, &folder.join("run.trc"))?;
        for one in &waiting[1..] {
            command.args(["--master", &one.master.to_string()]);
        }
        // None of them is nginx yet.
        command.arg("--keep-going");
        let mut tracer = Tracer::start(&mut command)?;
        tracer.tracing()?;
        let mut settled = 0;
        for (number, one) in waiting.into_iter().enumerate() {
            let near = one.near.clone();
            let verdict = one.live(&tracer, number)?;
            let evidence = verdict["evidence"].to_string();
            ensure!(
                verdict["cause"] == "firewall-reject" && evidence.contains("ICMPv6 1/4"),
                "in namespace {number} ICMP was not heard: {verdict}"
            );
            is_gone(&near)?;
            if number == FIRST {
                settled = descriptors(tracer.pid())?.len();
            }
        }
        until("no more descriptors than at first", PATIENCE, || {
            let now = descriptors(tracer.pid())?;
            Ok((now.len() <= settled).then_some(()))
        })
        .with_context(|| format!("{settled} at first, now {:?}", descriptors(tracer.pid())))?;
        let ended = tracer.stop(libc::SIGINT)?;
        ensure!(ended.status.success(), "{}", ended.stderr);
        Ok(())
    })
}

#[test]
fn where_icmp_is_not_heard_what_rests_on_its_silence_says_so() -> Result<()> {
    let stage = Stage::new()?;
    // So that the kernel gives up after two SYNs.
    stage.netns.sysctl("ipv4/tcp_syn_retries", "1")?;
    let _link = Tun::new(&stage.netns, &[Host::Silent])?;
    let upstream = format!("{}:80", tun::address(0));
    let expected = Expected::new("syn-timeout", &upstream, "ETIMEDOUT").at_best_proven();
    let site = stage.start(vec![Fault::proxy(expected, "")])?;
    let load = Load {
        failing: 1,
        ..Load::default()
    };
    for (arguments, confidence, lost) in [
        (&["--without", "icmp_receive"][..], "inferred", true),
        (&[], "proven", false),
    ] {
        let tracer = Tracer::follow_with(site.nginx.master, arguments)?;
        let sent = site.send(load)?;
        let ended = site.check_all(&sent, tracer)?;
        let [verdict] = &ended.verdicts[..] else {
            anyhow::bail!("verdicts: {:?}", ended.verdicts);
        };
        ensure!(verdict["confidence"] == confidence, "{verdict}");
        let evidence = verdict["evidence"].to_string();
        ensure!(evidence.contains("icmp_receive") == lost, "{verdict}");
        ensure!(
            ended.stderr.contains(" missing") == lost,
            "{}",
            ended.stderr
        );
    }
    Ok(())
}
