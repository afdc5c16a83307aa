//! The demo: a real nginx with six faulty upstreams and a healthy one, and `tracer live` telling
//! why each request failed.
//!
//! Everything happens in a network namespace of its own and ends with this program, also after an
//! error or Ctrl-C. Needs root; the programs are found as for the tests.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tests::backend::{Backend, Protocol, listen};
use tests::faults::{firewall, unix_files};
use tests::folder::Folder;
use tests::netns::Netns;
use tests::nginx::{Config, Nginx};
use tests::wait::{PATIENCE, until};
use tests::{client, process, programs};

/// The requests in their order; healthy ones must not be reported.
const PATHS: [&str; 8] = [
    "/healthy",
    "/api",
    "/cart",
    "/search",
    "/login",
    "/partner",
    "/retried",
    "/healthy/again",
];

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn interrupted(_: i32) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

fn main() -> ExitCode {
    let handler: extern "C" fn(i32) = interrupted;
    // SAFETY: the handler stores to an atomic, which a signal handler may do.
    unsafe { libc::signal(libc::SIGINT, handler as *const () as libc::sighandler_t) };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let tracer = programs::tracer()?;
    let netns = Netns::new()?;
    let folder = Folder::new()?;
    let _healthy = Backend::new(&netns, "127.0.0.1:8000", Protocol::Http)?;
    let _ipv6_alone = listen(&netns, "[::1]:3000")?;
    resets_one(listen(&netns, "127.0.0.1:4000")?);
    let _rejected = listen(&netns, "127.0.0.1:5000")?;
    firewall::rule(&netns, "output", "tcp dport 5000 reject")?;
    netns.ip("route add prohibit 192.0.2.0/24")?;
    let socket = folder.join("login.sock");
    let _login = unix_files::listener(&socket)?;
    unix_files::allow(&socket, 0o600)?;
    let nginx = Nginx::start(&netns, &config(&socket), |_| Ok(()))?;

    let mut tracer = Live::start(&tracer, nginx.master)?;
    tracer.says("tracing")?;
    for path in PATHS {
        let status = netns.enter(|| client::get(path))?;
        if !path.starts_with("/healthy") {
            // So that the verdicts come in the order of the requests.
            tracer
                .says(path)
                .with_context(|| format!("no verdict on GET {path}, which got {status}"))?;
        }
    }
    tracer.stop()
}

fn config(socket: &Path) -> Config {
    let proxied = [
        ("/healthy", "127.0.0.1:8000"),
        ("/api", "127.0.0.1:3000"),
        ("/cart", "127.0.0.1:4000"),
        ("/search", "127.0.0.1:5000"),
        ("/partner", "192.0.2.7:443"),
        ("/retried", "retried"),
    ];
    let mut server: String = proxied
        .iter()
        .map(|(path, upstream)| format!("location {path} {{ proxy_pass http://{upstream}; }}\n"))
        .collect();
    server.push_str(&format!(
        "location /login {{ proxy_pass http://unix:{}:; }}\n",
        socket.display()
    ));
    Config {
        http: "upstream retried { server 127.0.0.1:7000; server 127.0.0.1:8000 backup; }".into(),
        server,
        ..Config::default()
    }
}

/// Takes one request and hangs up on it: a close() over unread bytes sends a RST. The thread ends
/// with this program.
fn resets_one(listener: TcpListener) {
    std::thread::spawn(move || {
        if let Ok((stream, _)) = listener.accept() {
            // Looks without reading, so that the request is there and stays unread.
            drop(stream.peek(&mut [0]));
        }
    });
}

/// `tracer live` in its text format; what it says goes through, so that we know when it has spoken.
struct Live {
    child: Child,
    said: Arc<Mutex<String>>,
    pipes: Vec<JoinHandle<()>>,
}

impl Live {
    fn start(program: &Path, master: u32) -> Result<Self> {
        let mut child = Command::new(program)
            .args(["live", "--master"])
            .arg(master.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let said = Arc::default();
        let pipes = vec![
            through(child.stdout.take(), std::io::stdout(), &said),
            through(child.stderr.take(), std::io::stderr(), &said),
        ];
        Ok(Self { child, said, pipes })
    }

    fn says(&mut self, text: &str) -> Result<()> {
        until(&format!("{text:?} from the tracer"), PATIENCE, || {
            if INTERRUPTED.load(Ordering::Relaxed) {
                bail!("interrupted");
            }
            let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
            if !said.contains(text)
                && let Some(status) = self.child.try_wait()?
            {
                bail!("the tracer ended with {status}");
            }
            Ok(said.contains(text).then_some(()))
        })
    }

    /// Ends the tracer as Ctrl-C would: it prints its summary.
    fn stop(mut self) -> Result<()> {
        process::signal(self.child.id(), libc::SIGINT);
        let status = process::ended(&mut self.child, Duration::from_secs(5))?;
        for pipe in self.pipes.drain(..) {
            drop(pipe.join());
        }
        if !status.success() {
            bail!("the tracer ended with {status}");
        }
        Ok(())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            process::end(&mut self.child, libc::SIGINT);
        }
    }
}

/// Copies a pipe line by line, and keeps what went through.
fn through(
    from: Option<impl Read + Send + 'static>,
    mut to: impl Write + Send + 'static,
    said: &Arc<Mutex<String>>,
) -> JoinHandle<()> {
    let said = Arc::clone(said);
    std::thread::spawn(move || {
        let Some(from) = from else { return };
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            // Nobody reads any more: the tracer need not know.
            drop(writeln!(to, "{line}"));
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            said.push_str(&line);
            said.push('\n');
        }
    })
}
