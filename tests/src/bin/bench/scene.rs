//! wrk, a proxy with one worker, and the server behind it, all real, in a network namespace of
//! their own. The proxy's worker has the first CPU to itself; the others share the rest, where
//! there is one.

use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use tests::folder::Folder;
use tests::netns::Netns;
use tests::nginx::{Config, Nginx};
use tests::wait::{PATIENCE, until};
use tests::{process, programs};

use crate::cpu;

/// The suite whose nginx is compiled with `-fcf-protection`.
const MARKED: &str = "trixie";

/// What of the proxy differs from row to row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A new upstream connection for each request.
    Fresh,
    /// Upstream connections are kept alive.
    KeepAlive,
    /// Nothing listens where requests are passed to.
    Failing,
    /// The same by an nginx whose functions begin with `endbr64`, as Debian 13's do.
    FailingMarked,
    /// A request waits for its answer until its client goes.
    Held,
}

impl Kind {
    /// What wrk asks for.
    pub(crate) const PATH: &'static str = "http://127.0.0.1/bench/";

    fn http(self) -> &'static str {
        match self {
            Self::Fresh => "upstream behind { server 127.0.0.1:8000; }",
            Self::KeepAlive => "upstream behind { server 127.0.0.1:8000; keepalive 64; }",
            Self::Failing | Self::FailingMarked => "upstream behind { server 127.0.0.1:9; }",
            Self::Held => "upstream behind { server 127.0.0.1:8001; }",
        }
    }

    /// Do all requests fail?
    pub(crate) fn is_failing(self) -> bool {
        matches!(self, Self::Failing | Self::FailingMarked)
    }

    fn location(self) -> &'static str {
        match self {
            Self::KeepAlive => {
                "proxy_pass http://behind; proxy_http_version 1.1; proxy_set_header Connection '';"
            }
            Self::Held => "proxy_read_timeout 1h; proxy_pass http://behind;",
            _ => "proxy_pass http://behind;",
        }
    }
}

/// Where it all happens.
pub(crate) struct Scene {
    /// Its network.
    pub(crate) netns: Netns,
    /// The proxy.
    pub(crate) proxy: Nginx,
    /// Its worker.
    pub(crate) worker: u32,
    behind: Child,
    _folder: Folder,
}

/// How many CPUs this process may use.
pub(crate) fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// All but the proxy's.
pub(crate) fn other_cpus() -> Vec<usize> {
    match cpus() {
        1 => vec![0],
        count => (1..count).collect(),
    }
}

impl Scene {
    /// Starts proxy and server; `error_log` as nginx takes it, `None` for a file at level `error`.
    pub(crate) fn new(kind: Kind, error_log: Option<&str>) -> Result<Self> {
        let netns = Netns::new()?;
        netns.sysctl("ipv4/ip_local_port_range", "1024 65000")?;
        let folder = Folder::new()?;
        let behind = behind(&netns, &folder)?;
        let tree = match kind {
            Kind::FailingMarked => Some(programs::suite(MARKED).with_context(|| {
                format!("Debian {MARKED}'s nginx is not unpacked (cargo xtask setup)")
            })?),
            _ => None,
        };
        let config = Config {
            tree,
            // What it holds is shared: a worker may have 20,000 descriptors on many hosts.
            workers: if kind == Kind::Held { 2 } else { 1 },
            main: "worker_cpu_affinity 1; worker_rlimit_nofile 65536;".into(),
            events: "worker_connections 32768;".into(),
            http: format!("keepalive_requests 1000000;\n{}\n", kind.http()),
            server: format!(
                "location /bench/ {{ {} }} location /fail/ {{ proxy_pass http://127.0.0.1:9; }}",
                kind.location()
            ),
            error_log: error_log
                .map(|level| format!("{} {level}", folder.join("error.log").display())),
            ..Config::default()
        };
        let proxy = Nginx::start(&netns, &config, |_| Ok(()))?;
        let worker = *proxy.worker_pids().first().context("no worker")?;
        Ok(Self {
            netns,
            proxy,
            worker,
            behind,
            _folder: folder,
        })
    }

    /// The server's master.
    pub(crate) fn behind(&self) -> u32 {
        self.behind.id()
    }

    /// The server's worker.
    pub(crate) fn server(&self) -> u32 {
        process::children(self.behind())
            .first()
            .copied()
            .unwrap_or(0)
    }

    /// A program of the bench's own tree, in the scene's network, away from the proxy's CPU.
    pub(crate) fn command(&self, program: &str) -> Result<Command> {
        let mut command = programs::alternative(program)?;
        self.netns.place(&mut command);
        aside(&mut command);
        Ok(command)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        process::end(&mut self.behind, libc::SIGTERM);
    }
}

/// Keeps a command away from the proxy's CPU.
pub(crate) fn aside(command: &mut Command) {
    let cpus = other_cpus();
    // SAFETY: between fork and exec only a system call is made.
    unsafe { command.pre_exec(move || cpu::keep_to(&cpus)) };
}

/// A server that answers at once on port 8000, and never on 8001.
fn behind(netns: &Netns, folder: &Folder) -> Result<Child> {
    let at = folder.path().display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {at}/{kind};\n"))
        .concat();
    let file = folder.join("behind.conf");
    std::fs::write(
        &file,
        format!(
            "daemon off; user nobody nogroup; worker_processes 1; pid {at}/behind.pid;\n\
             error_log {at}/behind.log error; worker_rlimit_nofile 65536;\n\
             events {{ worker_connections 32768; }}\n\
             http {{ {temporary} access_log off; keepalive_requests 100000000;\n\
             server {{ listen 127.0.0.1:8000 backlog=4096; return 200 'ok'; }}\n\
             }}\n"
        ),
    )?;
    let mut command = programs::command("nginx")?;
    netns.place(&mut command);
    aside(&mut command);
    let child = command
        .arg("-p")
        .arg(folder.path())
        .arg("-c")
        .arg(file)
        .stdin(Stdio::null())
        .spawn()
        .context("starting the server behind the proxy")?;
    until("the server behind the proxy", PATIENCE, || {
        netns.enter(|| Ok(TcpStream::connect("127.0.0.1:8000").ok().map(drop)))
    })?;
    Ok(child)
}
