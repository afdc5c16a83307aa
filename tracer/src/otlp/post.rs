//! One request of OTLP/HTTP, on a connection of its own: a collector that restarts or balances
//! needs no care then. Bounded in time and in what is read of the answer.

use std::{io, pin::pin, time::Duration};

use hyper::{
    Request, Response, StatusCode,
    body::{Body as _, Bytes, Incoming},
    client::conn::http1,
    header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT},
};
use serde::Deserialize;
use tokio::{net::TcpStream, time::timeout};

use super::endpoint::Endpoint;
use crate::{
    chain,
    http::{Io, Whole},
};

/// For one address.
const CONNECT: Duration = Duration::from_secs(2);
/// For the whole request: what OTLP exporters wait by default.
const ANSWER: Duration = Duration::from_secs(10);
/// Bytes of the answer's head, the least that hyper takes.
const HEAD: usize = 8192;
/// Bytes that are read of its body.
const BODY: usize = 64 << 10;
/// `Retry-After` is obeyed up to this.
const LATEST: Duration = Duration::from_secs(60);

/// How a request ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It was taken; the collector refused so many records of it.
    Taken { refused: u64 },
    /// It will never be taken.
    Refused(String),
    /// It may be later, at the earliest after that time.
    Later(String, Option<Duration>),
}

/// Sends it.
pub(super) async fn post(endpoint: &Endpoint, path: &str, body: Bytes) -> Answer {
    match timeout(ANSWER, sent(endpoint, path, body)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => Answer::Later(chain::text(&*error), None),
        Err(_) => Answer::Later(format!("no answer within {} s", ANSWER.as_secs()), None),
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn sent(endpoint: &Endpoint, path: &str, body: Bytes) -> Result<Answer, Failure> {
    let stream = connected(endpoint).await?;
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD);
    let (mut sender, connection) = builder.handshake(Io::new(Box::new(stream))).await?;
    let request = Request::post(format!("{}{path}", endpoint.path))
        .header(HOST, &endpoint.authority)
        .header(USER_AGENT, concat!("tracer/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, "application/json")
        .header(CONTENT_LENGTH, body.len())
        .header(CONNECTION, "close")
        .body(Whole::new(body))?;
    let mut connection = pin!(connection);
    let mut answer = pin!(async { answer(sender.send_request(request).await?).await });
    // The connection makes progress only while it is polled; it may end before its answer is read.
    tokio::select! {
        biased;
        answer = &mut answer => return answer,
        ended = &mut connection => ended?,
    }
    answer.await
}

async fn connected(endpoint: &Endpoint) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in &endpoint.addresses {
        match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

async fn answer(response: Response<Incoming>) -> Result<Answer, Failure> {
    let status = response.status();
    // https://opentelemetry.io/docs/specs/otlp/#retryable-response-codes
    let is_later = matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    );
    if is_later {
        let wait = response.headers().get(RETRY_AFTER);
        let wait = wait.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let wait = wait.map(|seconds| Duration::from_secs(seconds).min(LATEST));
        return Ok(Answer::Later(format!("status {}", status.as_u16()), wait));
    }
    if !status.is_success() {
        return Ok(Answer::Refused(format!("status {}", status.as_u16())));
    }
    Ok(Answer::Taken {
        refused: refused(&read(response.into_body()).await?),
    })
}

/// A body's beginning.
async fn read(body: Incoming) -> Result<Vec<u8>, Failure> {
    let mut body = pin!(body);
    let mut bytes = Vec::new();
    while let Some(frame) = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await
    {
        if let Ok(data) = frame?.into_data() {
            let room = BODY.saturating_sub(bytes.len());
            bytes.extend_from_slice(&data[..data.len().min(room)]);
            if bytes.len() >= BODY {
                break;
            }
        }
    }
    Ok(bytes)
}

/// `ExportLogsServiceResponse` and `ExportTraceServiceResponse`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    partial_success: Option<Partial>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Partial {
    rejected_log_records: serde_json::Value,
    rejected_spans: serde_json::Value,
}

/// How many of a request's records were refused: 64 bits are text in JSON, or a number.
fn refused(body: &[u8]) -> u64 {
    let said: Option<Said> = serde_json::from_slice(body).ok();
    let Some(partial) = said.and_then(|said| said.partial_success) else {
        return 0;
    };
    let number = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => text.parse().unwrap_or(0),
        value => value.as_u64().unwrap_or(0),
    };
    number(partial.rejected_log_records).max(number(partial.rejected_spans))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_collector_refuses_is_read_from_its_answer() {
        for (body, count) in [
            (r#"{"partialSuccess":{"rejectedLogRecords":"3"}}"#, 3),
            (r#"{"partialSuccess":{"rejectedSpans":2}}"#, 2),
            (r#"{"partialSuccess":null}"#, 0),
            (r#"{"partialSuccess":{"rejectedSpans":-1}}"#, 0),
            ("{}", 0),
            ("", 0),
            ("[[[[", 0),
        ] {
            assert_eq!(refused(body.as_bytes()), count, "{body}");
        }
    }
}
