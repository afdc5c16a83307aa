//! Debian's Prometheus and promtool, and a client of what they read.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::folder::Folder;
use crate::netns::Netns;
use crate::wait::{PATIENCE, until};
use crate::{process, programs};

/// Where it listens, in its namespace.
const ADDRESS: &str = "127.0.0.1:9090";
/// Its configuration, in its folder.
const CONFIG: &str = "prometheus.yml";
/// What it wrote, there too.
const LOG: &str = "prometheus.log";

/// The file system root that it runs in, if setup could make it.
pub fn tree() -> Option<PathBuf> {
    let tree = programs::workspace().join("target/monitoring");
    let tree = tree.canonicalize().ok()?;
    tree.join("usr/bin/prometheus").is_file().then_some(tree)
}

/// A file of `contrib/prometheus`.
pub fn shipped(name: &str) -> Result<String> {
    let path = programs::workspace().join("contrib/prometheus").join(name);
    std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}

fn program(name: &str) -> Result<Command> {
    let tree = tree().context("no target/monitoring (cargo xtask setup)")?;
    programs::rooted(&tree, &format!("/usr/bin/{name}"))
}

/// What promtool prints for these words, which name files below the temporary folder; it reads
/// `input`.
pub fn promtool(words: &[&str], input: &str) -> Result<String> {
    let mut child = program("promtool")?
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start promtool")?;
    // It reads all before it prints.
    let mut stdin = child.stdin.take().context("no stdin")?;
    stdin.write_all(input.as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    ensure!(output.status.success(), "promtool {words:?}: {said}");
    Ok(said)
}

/// A running Prometheus; it ends with this value.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    netns: Netns,
    folder: Folder,
}

impl Prometheus {
    /// Starts it in `netns` with these files in its folder, one of them `prometheus.yml`, and waits
    /// until it is ready.
    pub fn start(netns: &Netns, files: &[(&str, &str)]) -> Result<Self> {
        let folder = Folder::new()?;
        for (name, text) in files {
            std::fs::write(folder.join(name), text)?;
        }
        let log = std::fs::File::create(folder.join(LOG))?;
        let mut command = program("prometheus")?;
        netns.place(&mut command);
        let child = command
            .arg(format!("--config.file={}", folder.join(CONFIG).display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.join("data").display()
            ))
            .arg(format!("--web.listen-address={ADDRESS}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start prometheus")?;
        let mut prometheus = Self {
            child,
            netns: netns.clone(),
            folder,
        };
        until("a Prometheus that is ready", PATIENCE, || {
            if let Some(status) = prometheus.child.try_wait()? {
                bail!("it ended with {status}: {}", prometheus.log());
            }
            let ready = get(&prometheus.netns, ADDRESS, "/-/ready", "*/*");
            Ok(ready.ok().filter(|answer| answer.status == 200).map(drop))
        })?;
        Ok(prometheus)
    }

    /// What it wrote about itself.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join(LOG)).unwrap_or_default()
    }

    /// The result of an instant query: an error if it cannot be parsed.
    pub fn query(&self, expression: &str) -> Result<Vec<Value>> {
        let path = format!("/api/v1/query?query={}", encoded(expression));
        let mut answer = self.api(&path)?;
        let result = answer["data"]["result"].take();
        serde_json::from_value(result).with_context(|| format!("{expression}: {answer}"))
    }

    /// The value of the only sample; `None` without one.
    pub fn value(&self, expression: &str) -> Result<Option<f64>> {
        let samples = self.query(expression)?;
        ensure!(samples.len() <= 1, "{expression}: {samples:?}");
        let Some(sample) = samples.first() else {
            return Ok(None);
        };
        let value = sample["value"][1].as_str().context("a sample's value")?;
        Ok(Some(value.parse()?))
    }

    /// The alerts that are pending or firing.
    pub fn alerts(&self) -> Result<Vec<Value>> {
        let mut answer = self.api("/api/v1/alerts")?;
        Ok(serde_json::from_value(answer["data"]["alerts"].take())?)
    }

    fn api(&self, path: &str) -> Result<Value> {
        let answer = get(&self.netns, ADDRESS, path, "application/json")?;
        let body: Value = serde_json::from_str(&answer.body)
            .with_context(|| format!("{path}: {} {}", answer.status, answer.body))?;
        ensure!(body["status"] == "success", "{path}: {body}");
        Ok(body)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            process::end(&mut self.child, libc::SIGTERM);
        }
    }
}

fn encoded(text: &str) -> String {
    let bytes = text.bytes();
    bytes
        .map(|byte| match byte.is_ascii_alphanumeric() {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its `Content-Type`.
    pub kind: String,
    /// Its body.
    pub body: String,
}

/// GETs a path at `address` in a namespace.
pub fn get(netns: &Netns, address: &str, path: &str, accept: &str) -> Result<Answer> {
    netns.enter(|| {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        ask(stream, path, accept)
    })
}

/// The same on a connection.
pub fn ask(mut stream: impl Read + Write, path: &str, accept: &str) -> Result<Answer> {
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: metrics.test\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").context("no head")?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    let kind = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-type").then_some(value)
    });
    let is_chunked = head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked");
    Ok(Answer {
        status,
        kind: kind.unwrap_or_default().to_owned(),
        body: match is_chunked {
            true => unchunked(body).context("a chunked body")?,
            false => body.to_owned(),
        },
    })
}

fn unchunked(mut body: &str) -> Option<String> {
    let mut whole = String::new();
    loop {
        let (length, rest) = body.split_once("\r\n")?;
        let length = usize::from_str_radix(length.trim(), 16).ok()?;
        if length == 0 {
            return Some(whole);
        }
        whole.push_str(rest.get(..length)?);
        body = rest.get(length..)?.strip_prefix("\r\n")?;
    }
}

/// Writes a copy of a file of `contrib/prometheus` into a folder.
pub fn copied(name: &str, folder: &Path) -> Result<PathBuf> {
    let path = folder.join(name);
    std::fs::write(&path, shipped(name)?)?;
    Ok(path)
}

/// The status of what comes on a connection; `None` if it is closed first.
pub fn read(mut stream: impl Read) -> Option<u16> {
    let mut head = [0; 12];
    stream.read_exact(&mut head).ok()?;
    let head = std::str::from_utf8(&head).ok()?;
    head.split(' ').nth(1)?.parse().ok()
}
