//! One request a connection: `GET /metrics`, and what bounds who sends it.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Bytes, Frame, Incoming, SizeHint},
    header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue},
    rt,
    server::conn::http1,
    service::service_fn,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{exposition::Format, page::Pages};

/// Bytes of a request's head, the least that hyper takes.
const HEAD: usize = 8192;
/// Lines of it.
const HEADERS: usize = 64;
/// Bytes read at once.
const PIECE: usize = 2048;

/// A connection of either kind. Boxed, so that hyper is compiled for one.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Serves one request, and closes.
pub(super) async fn serve(stream: Box<dyn Stream>, pages: &Pages) {
    let answer =
        service_fn(|request| std::future::ready(Ok::<_, Infallible>(answer(&request, pages))));
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(HEAD)
        .max_headers(HEADERS)
        .serve_connection(Io(stream), answer);
    // Whoever sends no request, or reads no answer, hears nothing of it.
    let _ = connection.await;
}

fn answer(request: &Request<Incoming>, pages: &Pages) -> Response<Text> {
    let is_read = [Method::GET, Method::HEAD].contains(request.method());
    if request.uri().path() != "/metrics" {
        return said(StatusCode::NOT_FOUND, "metrics are at /metrics\n");
    }
    if !is_read {
        let mut response = said(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD\n");
        let allowed = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(ALLOW, allowed);
        return response;
    }
    let format = format(request);
    match pages.get(format) {
        Some(page) => response(StatusCode::OK, format.content_type(), page),
        None => said(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the page could not be written\n",
        ),
    }
}

/// OpenMetrics for whoever can read it.
fn format(request: &Request<Incoming>) -> Format {
    let accepted = request.headers().get_all(ACCEPT).iter();
    let mut accepted = accepted.filter_map(|value| value.to_str().ok());
    match accepted.any(|value| value.contains("application/openmetrics-text")) {
        true => Format::OpenMetrics,
        false => Format::Text,
    }
}

fn said(status: StatusCode, text: &'static str) -> Response<Text> {
    response(
        status,
        "text/plain; charset=utf-8",
        Bytes::from_static(text.as_bytes()),
    )
}

fn response(status: StatusCode, kind: &'static str, text: Bytes) -> Response<Text> {
    let mut response = Response::new(Text(Some(text)));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// A body in one piece.
struct Text(Option<Bytes>);

impl Body for Text {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|text| Ok(Frame::data(text))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, Bytes::len) as u64)
    }
}

/// A stream of tokio's, as hyper takes it.
struct Io(Box<dyn Stream>);

impl rt::Read for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut into: rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        let mut piece = [0; PIECE];
        let room = into.remaining().min(PIECE);
        let mut read = ReadBuf::new(&mut piece[..room]);
        let polled = Pin::new(&mut self.0).poll_read(context, &mut read);
        if let Poll::Ready(Ok(())) = polled {
            into.put_slice(read.filled());
        }
        polled
    }
}

impl rt::Write for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
