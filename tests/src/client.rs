//! The client: one request a connection, over HTTP/1.1, TLS or HTTP/2.
//!
//! Everything here connects from the caller's network namespace: call it inside
//! [`Netns::enter`](crate::netns::Netns::enter).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::http2;
pub use crate::tls::Tls;
use crate::wait::{PATIENCE, until};

/// The Host header of every request.
pub const HOST: &str = "shop.test";

/// More than any nginx timer in these tests.
const LIMIT: Duration = Duration::from_secs(30);

/// The way to nginx.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    /// HTTP/1.1 to `127.0.0.1:80`.
    Http,
    /// HTTP/1.1 to `[::1]:80`.
    HttpV6,
    /// HTTP/2 with prior knowledge to 127.0.0.1:81.
    Http2,
    /// HTTP/1.1 over TLS to 127.0.0.1:443.
    Tls,
    /// HTTP/2 over TLS to 127.0.0.1:443.
    TlsHttp2,
}

impl Front {
    /// The client's address as nginx sees it.
    pub fn client(self) -> &'static str {
        if self == Self::HttpV6 {
            "::1"
        } else {
            "127.0.0.1"
        }
    }

    /// The request line as nginx logs it.
    pub fn line(self, method: &str, path: &str) -> String {
        match self {
            Self::Http2 | Self::TlsHttp2 => format!("{method} {path} HTTP/2.0"),
            _ => format!("{method} {path} HTTP/1.1"),
        }
    }

    /// Asks on a connection of its own and gives the status.
    pub fn ask(self, question: &Question) -> Result<u16> {
        let Question { method, path, .. } = question;
        match self {
            Self::Http => http(&mut dial("127.0.0.1:80")?, question),
            Self::HttpV6 => http(&mut dial("[::1]:80")?, question),
            Self::Tls => http(&mut Tls::connect("http/1.1")?, question),
            _ if *method != "GET" => bail!("no {method} over HTTP/2 here"),
            Self::Http2 => http2::get(&mut dial("127.0.0.1:81")?, HOST, path),
            Self::TlsHttp2 => http2::get(&mut Tls::connect("h2")?, HOST, path),
        }
    }
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// The path.
    pub path: String,
    /// Bytes of the body, for a POST.
    pub body: usize,
}

impl Question {
    /// A GET.
    pub fn get(path: impl Into<String>) -> Self {
        Self {
            method: "GET",
            path: path.into(),
            body: 0,
        }
    }

    /// The request's header, but for the empty line that ends it.
    fn head(&self) -> String {
        let Self { method, path, body } = self;
        let length = if *method == "POST" {
            format!("Content-Length: {body}\r\n")
        } else {
            String::new()
        };
        format!("{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n{length}")
    }
}

/// What a client got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The path it asked for.
    pub path: String,
    /// The status it got.
    pub status: u16,
    /// When it began to ask.
    pub asked: Instant,
}

/// Sends one GET over plain HTTP/1.1 and gives the status.
pub fn get(path: &str) -> Result<u16> {
    Front::Http.ask(&Question::get(path))
}

/// Asks each question, `concurrency` at a time, and gives the answers in any order. A request
/// without an answer is an error.
pub fn send(front: Front, questions: &[Question], concurrency: usize) -> Result<Vec<Answer>> {
    let next = AtomicUsize::new(0);
    let answers = Mutex::new(Vec::with_capacity(questions.len()));
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..concurrency)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    while let Some(question) = questions.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let asked = Instant::now();
                        let status = front
                            .ask(question)
                            .with_context(|| format!("no answer to {question:?}"))?;
                        let answer = Answer {
                            path: question.path.clone(),
                            status,
                            asked,
                        };
                        answers
                            .lock()
                            .map_err(|_| anyhow!("a client panicked"))?
                            .push(answer);
                    }
                    Ok(())
                })
            })
            .collect();
        for thread in threads {
            thread.join().map_err(|_| anyhow!("a client panicked"))??;
        }
        Ok::<_, anyhow::Error>(())
    })?;
    answers
        .into_inner()
        .map_err(|_| anyhow!("a client panicked"))
}

/// Asks for these paths one after another, from the moment that nginx takes connections: it may not
/// have forked its workers yet.
pub fn eager(paths: &[String]) -> Result<Vec<Answer>> {
    let ask = |path: &String| {
        let asked = Instant::now();
        let status = Front::Http.ask(&Question::get(path.clone()));
        let status = status.with_context(|| format!("no answer to {path}"))?;
        let path = path.clone();
        Ok(Answer {
            path,
            status,
            asked,
        })
    };
    let Some((first, others)) = paths.split_first() else {
        return Ok(Vec::new());
    };
    // `nginx -t` has the port for a moment too, and serves nobody.
    let first = until("nginx's first answer", PATIENCE, || Ok(ask(first).ok()))?;
    let others = others.iter().map(ask).collect::<Result<Vec<_>>>()?;
    Ok([vec![first], others].concat())
}

/// Connects to nginx.
pub fn dial(address: &str) -> Result<TcpStream> {
    let stream =
        TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// Says something to a port of nginx's; whether anything came back.
pub fn answered(port: u16) -> Result<bool> {
    let mut stream = dial(&format!("127.0.0.1:{port}"))?;
    write!(stream, "GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = Vec::new();
    // nginx closes by FIN or by RST, with what was said unread.
    let ended = stream.read_to_end(&mut answer);
    Ok(ended.is_ok() && !answer.is_empty())
}

fn http(stream: &mut (impl Read + Write), question: &Question) -> Result<u16> {
    write!(stream, "{}\r\n", question.head())?;
    // nginx may answer before it has read everything.
    let sent = stream
        .write_all(&vec![b'x'; question.body])
        .and_then(|()| stream.flush());
    let mut answer = Vec::new();
    // To the end: nginx has then closed its side too.
    let ended = stream.read_to_end(&mut answer);
    status(&answer).with_context(|| match ended {
        Ok(_) => format!("{} bytes came, sending: {sent:?}", answer.len()),
        Err(error) => format!("{} bytes came, then {error}", answer.len()),
    })
}

/// The status in an HTTP/1.x answer.
pub fn status(answer: &[u8]) -> Result<u16> {
    let line = answer.split(|byte| *byte == b'\r').next().unwrap_or(&[]);
    let line = std::str::from_utf8(line)?;
    match line.split(' ').nth(1).map(str::parse) {
        Some(Ok(status)) if line.starts_with("HTTP/1.") => Ok(status),
        _ => bail!("no status line: {line:?}"),
    }
}
