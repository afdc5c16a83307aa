//! A real OpenTelemetry collector (Rotel), and a receiver that decodes OTLP by OpenTelemetry's own
//! messages: of the collector, or of tracer itself.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::lines::Lines;
use crate::netns::Netns;
use crate::wait::{PATIENCE, until};
use crate::{process, programs};

const RECEIVER: &str = include_str!("receiver.py");

/// Their Python, if setup could make it.
pub fn python() -> Option<PathBuf> {
    let python = programs::workspace().join("target/collector/bin/python3");
    python.is_file().then_some(python)
}

/// Rotel's program, in that Python's packages.
fn rotel() -> Result<PathBuf> {
    let python = python().context("no target/collector: cargo xtask setup")?;
    let place =
        "import importlib.util as u; print(u.find_spec('rotel').submodule_search_locations[0])";
    let folder = programs::output(Command::new(python).args(["-c", place]))?;
    Ok(PathBuf::from(folder.trim()).join("rotel-agent"))
}

/// A running receiver; it ends with this value.
#[derive(Debug)]
pub struct Receiver {
    child: Child,
    lines: Lines,
}

impl Receiver {
    /// Starts it on this port of 127.0.0.1 in `netns`; its first `late` answers are 503.
    pub fn start(netns: &Netns, port: u16, late: usize) -> Result<Self> {
        let python = python().context("no target/collector: cargo xtask setup")?;
        let mut command = Command::new(python);
        netns.place(&mut command);
        let mut child = command
            .args(["-c", RECEIVER, &port.to_string(), &late.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the receiver")?;
        let stdout = child.stdout.take().context("no stdout")?;
        let receiver = Self {
            child,
            lines: Lines::of(stdout),
        };
        until("a receiver that listens", PATIENCE, || {
            Ok((!receiver.lines.now().is_empty()).then_some(()))
        })?;
        Ok(receiver)
    }

    /// What it received so far, of this kind (`log` or `span`).
    pub fn received(&self, kind: &str) -> Result<Vec<Value>> {
        let lines = self.lines.now().into_iter();
        let values: Vec<Value> = lines
            .map(|line| serde_json::from_str(&line.text).with_context(|| line.text.clone()))
            .collect::<Result<_>>()?;
        Ok(values
            .into_iter()
            .filter(|one| one["kind"] == kind)
            .collect())
    }

    /// Waits until it has received so many, and returns them.
    pub fn wait(&self, kind: &str, count: usize) -> Result<Vec<Value>> {
        let received = until(&format!("{count} of kind {kind}"), PATIENCE, || {
            let received = self.received(kind)?;
            Ok((received.len() >= count).then_some(received))
        })
        .with_context(|| format!("{:?}", self.received(kind)))?;
        ensure!(received.len() == count, "{} came", received.len());
        Ok(received)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        process::end(&mut self.child, libc::SIGTERM);
    }
}

/// A running Rotel that sends on what it receives; it ends with this value.
#[derive(Debug)]
pub struct Collector(Child);

impl Collector {
    /// Starts it on the port `from` of 127.0.0.1 in `netns`; it sends to the port `to`.
    pub fn start(netns: &Netns, from: u16, to: u16) -> Result<Self> {
        let mut command = Command::new(rotel()?);
        netns.place(&mut command);
        let child = command
            .arg("start")
            .args(["--otlp-http-endpoint", &format!("127.0.0.1:{from}")])
            .args(["--otlp-grpc-endpoint", "127.0.0.1:0"])
            .args(["--exporter", "otlp", "--otlp-exporter-protocol", "http"])
            .args([
                "--otlp-exporter-endpoint",
                &format!("http://127.0.0.1:{to}"),
            ])
            .args(["--batch-timeout", "100ms"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start rotel")?;
        let mut collector = Self(child);
        until("a collector that listens", PATIENCE, || {
            if let Some(status) = collector.0.try_wait()? {
                anyhow::bail!("it ended with {status}");
            }
            let dial = || Ok(std::net::TcpStream::connect(("127.0.0.1", from)).is_ok());
            Ok(netns.enter(dial)?.then_some(()))
        })?;
        Ok(collector)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        process::end(&mut self.0, libc::SIGTERM);
    }
}
