//! One request a connection: `GET /metrics`, and what bounds who sends it.

use std::convert::Infallible;

use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};

use super::{exposition::Format, page::Pages};
use crate::http::{Io, Stream, Whole};

/// Bytes of a request's head, the least that hyper takes.
const HEAD: usize = 8192;
/// Lines of it.
const HEADERS: usize = 64;

/// Serves one request, and closes.
pub(super) async fn serve(stream: Box<dyn Stream>, pages: &Pages) {
    let answer =
        service_fn(|request| std::future::ready(Ok::<_, Infallible>(answer(&request, pages))));
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(HEAD)
        .max_headers(HEADERS)
        .serve_connection(Io::new(stream), answer);
    // Whoever sends no request, or reads no answer, hears nothing of it.
    let _ = connection.await;
}

fn answer(request: &Request<Incoming>, pages: &Pages) -> Response<Whole> {
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

fn said(status: StatusCode, text: &'static str) -> Response<Whole> {
    response(
        status,
        "text/plain; charset=utf-8",
        Bytes::from_static(text.as_bytes()),
    )
}

fn response(status: StatusCode, kind: &'static str, text: Bytes) -> Response<Whole> {
    let mut response = Response::new(Whole::new(text));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
