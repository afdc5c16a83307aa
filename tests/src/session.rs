//! A client that keeps its connection to nginx: a request at a time, sending and receiving apart.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::client::{self, Answer, HOST, dial};
use crate::netns::Netns;

/// A connection that has carried one request at least: nginx has accepted it.
#[derive(Debug)]
pub struct Session<S: Read + Write = TcpStream> {
    stream: BufReader<S>,
}

/// An answer with its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The status.
    pub status: u16,
    /// The header's lines.
    pub header: Vec<String>,
    /// The body came whole.
    pub whole: bool,
}

impl Heard {
    /// The value of a header.
    pub fn value(&self, name: &str) -> Option<&str> {
        let named = |line: &'_ String| {
            line.get(..name.len())?
                .eq_ignore_ascii_case(name)
                .then_some(())
        };
        let line = self.header.iter().find(|line| named(line).is_some())?;
        line[name.len()..].strip_prefix(':').map(str::trim)
    }
}

impl Session {
    /// Connects from `netns`, in plain.
    pub fn open(netns: &Netns) -> Result<Self> {
        let stream = netns.enter(|| dial("127.0.0.1:80"))?;
        stream.set_nodelay(true)?;
        Self::over(stream)
    }
}

impl<S: Read + Write> Session<S> {
    /// Takes this connection to nginx.
    pub fn over(stream: S) -> Result<Self> {
        let mut session = Self {
            stream: BufReader::new(stream),
        };
        match session.ask("GET", "/ready")?.status {
            200 => Ok(session),
            status => bail!("nginx answered {status} to the first request"),
        }
    }

    /// Sends a request and waits for its answer.
    pub fn ask(&mut self, method: &str, path: &str) -> Result<Heard> {
        self.say(method, path)?;
        self.hear()
    }

    /// The same, as what a test says it sent.
    pub fn answer(&mut self, method: &str, path: &str) -> Result<Answer> {
        let asked = Instant::now();
        let status = self.ask(method, path)?.status;
        Ok(Answer {
            path: path.to_owned(),
            status,
            asked,
        })
    }

    /// Sends a request, in one write.
    pub fn say(&mut self, method: &str, path: &str) -> Result<()> {
        let body = if method == "POST" {
            "Content-Length: 2\r\n\r\nhi"
        } else {
            "\r\n"
        };
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {HOST}\r\n{body}");
        let stream = self.stream.get_mut();
        let sent = stream
            .write_all(request.as_bytes())
            .and_then(|()| stream.flush());
        sent.with_context(|| format!("cannot send {method} {path}"))
    }

    /// Waits for an answer and reads it with its body, as far as it comes.
    pub fn hear(&mut self) -> Result<Heard> {
        let mut header = Vec::new();
        loop {
            let mut line = String::new();
            let length = self.stream.read_line(&mut line).context("no answer")?;
            if length == 0 {
                bail!("nginx closed the connection after {header:?}");
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            header.push(line.to_owned());
        }
        let mut heard = Heard {
            status: client::status(header.first().context("no answer")?.as_bytes())?,
            header,
            whole: false,
        };
        if let Some(length) = heard.value("Content-Length") {
            let mut body = vec![0; length.parse()?];
            heard.whole = self.stream.read_exact(&mut body).is_ok();
        }
        Ok(heard)
    }
}
