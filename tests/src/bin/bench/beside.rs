//! What runs during the load: nothing (`sleep`), tracer, or what an operator would take instead.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tests::folder::Folder;
use tests::tracer::{self, Tracer};
use tests::wait::{PATIENCE, until};
use tests::{process, programs};

use crate::scene::{Kind, Scene, aside};

/// A condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beside {
    /// `sleep`: what it differs by is noise.
    Sham,
    /// `sleep` again.
    Sham2,
    /// bpftrace with empty programs on the hooks that a request meets: the floor.
    Empty,
    /// The same programs, which ask for the process that they meet and leave: the least that one
    /// must do that is not about every process.
    Filter,
    /// `tracer live` that follows none of these processes: its hooks alone, which return early.
    Elsewhere,
    /// The same, following the server's nginx, which runs the proxy's binary: breakpoints are in it
    /// too, and return early.
    Behind,
    /// `tracer live`.
    Live,
    /// The same with `--max-cpu 5%`: of failures beyond that a sample is reported, the others are
    /// counted.
    Ceiling,
    /// `tracer record`.
    Record,
    /// `tracer record --ring`, as its unit runs it.
    Ring,
    /// bpftrace, a line for each of the events that tracer looks at, system calls left out.
    Bpftrace,
    /// libbpf-tools' tcplife.
    Tcplife,
    /// `tcpdump -s 96`.
    Tcpdump,
    /// `strace -e trace=network`.
    Strace,
    /// nginx's own `error_log … debug`.
    DebugLog,
}

/// All of them, in the table's order.
pub(crate) const ALL: [Beside; 15] = [
    Beside::Sham,
    Beside::Sham2,
    Beside::Empty,
    Beside::Filter,
    Beside::Elsewhere,
    Beside::Behind,
    Beside::Live,
    Beside::Ceiling,
    Beside::Record,
    Beside::Ring,
    Beside::Bpftrace,
    Beside::Tcplife,
    Beside::Tcpdump,
    Beside::Strace,
    Beside::DebugLog,
];

/// What tracer looks at, as one would ask bpftrace for it.
const SCRIPT: &str = r#"
tracepoint:sock:inet_sock_set_state { printf("%lld %d %s state %d %d %d %d\n", nsecs, pid, comm, args->oldstate, args->newstate, args->sport, args->dport); }
tracepoint:tcp:tcp_receive_reset { printf("%lld %d %s rst %d %d\n", nsecs, pid, comm, args->sport, args->dport); }
tracepoint:tcp:tcp_retransmit_skb { printf("%lld %d %s again %d %d\n", nsecs, pid, comm, args->sport, args->dport); }
tracepoint:sock:inet_sk_error_report { printf("%lld %d %s error %d\n", nsecs, pid, comm, args->error); }
tracepoint:skb:kfree_skb { printf("%lld %d %s drop %d\n", nsecs, pid, comm, args->reason); }
"#;

/// Where a request meets tracer's hooks: those of every one, and those of one that fails.
const MET: [&str; 9] = [
    "sock:inet_sock_set_state",
    "tcp:tcp_destroy_sock",
    "fib:fib_table_lookup",
    "skb:kfree_skb",
    "sock:sock_recv_length",
    "sock:sock_send_length",
    "tcp:tcp_receive_reset",
    "tcp:tcp_send_reset",
    "sock:inet_sk_error_report",
];
/// The same within nginx.
const MET_IN_NGINX: [&str; 2] = ["ngx_log_error_core", "ngx_http_special_response_handler"];
/// No process has this number: the kernel's lie below 2^22.
const NOBODY: &str = "{ if (pid == 5000000) { @seen = 1; } }";

/// One program for all that a request meets.
fn on_all(scene: &Scene, program: &str) -> String {
    let tracepoints = MET.map(|name| format!("tracepoint:{name}"));
    let nginx = format!("/proc/{}/exe", scene.proxy.master);
    let functions = MET_IN_NGINX.map(|name| format!("uprobe:{nginx}:{name}"));
    let places: Vec<String> = tracepoints.into_iter().chain(functions).collect();
    format!("{} {program}", places.join(", "))
}

impl Beside {
    /// Its name in the table, and on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sham => "sleep",
            Self::Sham2 => "sleep again",
            Self::Empty => "empty programs",
            Self::Filter => "programs that ask",
            Self::Elsewhere => "tracer, elsewhere",
            Self::Behind => "tracer, server's",
            Self::Live => "tracer live",
            Self::Ceiling => "live --max-cpu 5%",
            Self::Record => "tracer record",
            Self::Ring => "record --ring",
            Self::Bpftrace => "bpftrace",
            Self::Tcplife => "tcplife",
            Self::Tcpdump => "tcpdump -s 96",
            Self::Strace => "strace -e network",
            Self::DebugLog => "error_log debug",
        }
    }

    /// Whether it is what an operator would take instead.
    pub(crate) fn is_alternative(self) -> bool {
        !matches!(
            self,
            Self::Sham
                | Self::Sham2
                | Self::Empty
                | Self::Filter
                | Self::Elsewhere
                | Self::Behind
                | Self::Live
                | Self::Ceiling
                | Self::Record
                | Self::Ring
        )
    }

    /// Does it say something about such requests? A ceiling is met where all fail.
    pub(crate) fn suits(self, kind: Kind) -> bool {
        self != Self::Ceiling || kind == Kind::Failing
    }

    /// Whether it does not say when its programs are attached.
    fn is_silent(self) -> bool {
        matches!(
            self,
            Self::Bpftrace | Self::Empty | Self::Filter | Self::Tcplife
        )
    }

    /// nginx's own log level, where that is the condition.
    pub(crate) fn error_log(self) -> Option<&'static str> {
        (self == Self::DebugLog).then_some("debug")
    }

    /// Starts it and waits until it sees; `None` where this host does not have the program.
    pub(crate) fn start(self, scene: &Scene) -> Result<Option<Running>> {
        let folder = Folder::new()?;
        let out = File::create(folder.join("out"))?;
        let tracer = match self {
            Self::Elsewhere => {
                let mut command = tracer::live(std::process::id())?;
                command.arg("--keep-going");
                Some(command)
            }
            Self::Behind => Some(tracer::live(scene.behind())?),
            Self::Live => Some(tracer::live(scene.proxy.master)?),
            Self::Ceiling => {
                let mut command = tracer::live(scene.proxy.master)?;
                command.args(["--max-cpu", "5%"]);
                Some(command)
            }
            Self::Record => Some(tracer::record(scene.proxy.master, &folder.join("run.trc"))?),
            Self::Ring => {
                let mut command = tracer::record(scene.proxy.master, folder.path())?;
                command.args(["--ring", "64M"]);
                Some(command)
            }
            _ => None,
        };
        if let Some(mut command) = tracer {
            aside(&mut command);
            let mut tracer = Tracer::start(&mut command)?;
            tracer.tracing()?;
            return Ok(Some(Running {
                what: What::Tracer(tracer),
                _folder: folder,
            }));
        }
        let Some(mut command) = self.command(scene, &folder)? else {
            return Ok(None);
        };
        aside(&mut command);
        command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out);
        let child = command
            .spawn()
            .with_context(|| format!("starting {}", self.name()))?;
        let mut running = Running {
            what: What::Other(child),
            _folder: folder,
        };
        running.wait(self, scene)?;
        Ok(Some(running))
    }

    fn command(self, scene: &Scene, folder: &Folder) -> Result<Option<Command>> {
        let program = match self {
            Self::Sham | Self::Sham2 | Self::DebugLog => {
                let mut sleep = Command::new("sleep");
                sleep.arg("1d");
                return Ok(Some(sleep));
            }
            Self::Bpftrace | Self::Empty | Self::Filter => "bpftrace",
            Self::Tcplife => "tcplife",
            Self::Tcpdump => "tcpdump",
            Self::Strace => "strace",
            Self::Elsewhere
            | Self::Behind
            | Self::Live
            | Self::Ceiling
            | Self::Record
            | Self::Ring => bail!("tracer is started otherwise"),
        };
        let Ok(mut command) = programs::alternative(program) else {
            return Ok(None);
        };
        if self.is_silent() {
            command = with_tracefs(&command);
        }
        match self {
            Self::Bpftrace => {
                command.args(["-e", SCRIPT]);
            }
            Self::Empty => {
                command.args(["-e", &on_all(scene, "{ }")]);
            }
            Self::Filter => {
                command.args(["-e", &on_all(scene, NOBODY)]);
            }
            Self::Tcpdump => {
                scene.netns.place(&mut command);
                command
                    .args(["-i", "lo", "-s", "96", "-B", "16384", "-Z", "root", "-w"])
                    .arg(folder.join("dump"))
                    .args(["tcp", "port", "8000"]);
            }
            Self::Strace => {
                command
                    .args(["-f", "-e", "trace=network", "-o"])
                    .arg(folder.join("strace"))
                    .arg("-p")
                    .arg(scene.worker.to_string());
            }
            _ => {}
        }
        Ok(Some(command))
    }
}

/// The same in a mount namespace of its own, where tracefs is mounted: not every host has it.
fn with_tracefs(inner: &Command) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c"])
        .arg("mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null; exec \"$@\"")
        .arg("sh")
        .arg(inner.get_program());
    for (name, value) in inner.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    command
}

/// Something that runs.
pub(crate) struct Running {
    what: What,
    _folder: Folder,
}

enum What {
    Tracer(Tracer),
    Other(Child),
}

impl Running {
    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        match &self.what {
            What::Tracer(tracer) => tracer.pid(),
            What::Other(child) => child.id(),
        }
    }

    /// Waits until it sees what happens: its hooks are attached, its file has a header, it traces
    /// the worker.
    fn wait(&mut self, beside: Beside, scene: &Scene) -> Result<()> {
        let What::Other(child) = &mut self.what else {
            return Ok(());
        };
        let folder = self._folder.path().to_owned();
        until(beside.name(), PATIENCE, || {
            if let Some(status) = child.try_wait()? {
                let said = std::fs::read_to_string(folder.join("out")).unwrap_or_default();
                bail!("{} ended with {status}: {said}", beside.name());
            }
            let sees = match beside {
                Beside::Bpftrace | Beside::Empty | Beside::Filter => {
                    std::fs::read_to_string(folder.join("out"))
                        .is_ok_and(|said| said.contains("Attaching"))
                }
                Beside::Tcpdump => std::fs::read_to_string(folder.join("out"))
                    .is_ok_and(|said| said.contains("listening on")),
                Beside::Strace => std::fs::read_to_string(format!("/proc/{}/status", scene.worker))
                    .is_ok_and(|status| !status.contains("TracerPid:\t0")),
                _ => true,
            };
            Ok(sees.then_some(()))
        })?;
        if beside.is_silent() {
            std::thread::sleep(Duration::from_secs(1));
        }
        Ok(())
    }

    /// Ends it; a tracer has to have lost nothing.
    pub(crate) fn end(self) -> Result<Option<String>> {
        match self.what {
            What::Tracer(tracer) => {
                let ended = tracer.stop(libc::SIGINT)?;
                if !ended.status.success() {
                    bail!("tracer ended with {}: {}", ended.status, ended.stderr);
                }
                Ok(Some(ended.stderr))
            }
            What::Other(mut child) => {
                process::end(&mut child, libc::SIGINT);
                Ok(None)
            }
        }
    }
}
