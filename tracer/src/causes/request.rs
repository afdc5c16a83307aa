//! A request's names: from nginx's memory and the client's socket, and from its log only what those
//! do not say.
//!
//! Whoever may append to a log can write a line that looks like the worker's. It can name a request
//! whose own words are not known (HTTP/2 and HTTP/3), but no words that were seen give way to it,
//! and no cause rests on it.

use std::net::IpAddr;

use crate::{
    correlate::Case,
    event::{LogLine, RequestHead},
    verdict::{Evidence, Request},
};

/// The names, if any is known, and what is to be said of where they come from.
pub(super) fn named(case: &Case) -> (Option<Request>, Vec<Evidence>) {
    let names = case.names.as_deref();
    let seen = Request {
        client: case
            .client
            .map(|client| client.ip().to_canonical().to_string()),
        host: case.head.as_ref().and_then(|head| head.host.clone()),
        line: case.head.as_ref().map(|head| line(case, head)),
        server_name: names.and_then(|names| names.server.clone()),
        request_id: names.and_then(|names| names.id.clone()),
        traceparent: names.and_then(|names| names.traceparent.clone()),
    };
    let logged = |field: fn(&LogLine) -> Option<&String>| {
        let doubtful = case.log_lines.iter().filter(|line| line.is_doubtful());
        let mut lines = case.sure_lines().chain(doubtful);
        lines.find_map(|line| Some((field(line)?, line)))
    };
    let (client, host, line, server) = (
        logged(|line| line.client.as_ref()),
        logged(|line| line.host.as_ref()),
        logged(|line| line.request.as_ref()),
        logged(|line| line.server.as_ref()),
    );
    let mut notes = Vec::new();
    for (name, seen, logged) in [("client", &seen.client, client), ("host", &seen.host, host)] {
        if let (Some(seen), Some((logged, _))) = (seen, logged)
            && !is_same(seen, logged)
        {
            let text = format!("the error log names another {name}: {logged}");
            notes.push(note(text));
        }
    }
    let taken = [
        (&seen.client, client),
        (&seen.host, host),
        (&seen.line, line),
        (&seen.server_name, server),
    ];
    let mut taken = taken.iter().filter_map(|(seen, logged)| match seen {
        None => logged.map(|(_, line)| line),
        Some(_) => None,
    });
    if let Some(line) = taken.find(|line| line.is_doubtful()) {
        let who = match line.workers.as_deref().unwrap_or_default().len() {
            0 => "no followed worker holds the log that it is from".to_owned(),
            many => format!("{many} workers with the pid that it prints share that log"),
        };
        notes.push(note(format!(
            "the request's names are from a log line that may be another worker's: {who}"
        )));
    }
    let text = |logged: Option<(&String, &LogLine)>| logged.map(|(text, _)| text.clone());
    let request = Request {
        client: seen.client.or_else(|| text(client)),
        host: seen.host.or_else(|| text(host)),
        line: seen.line.or_else(|| text(line)),
        server_name: seen.server_name.or_else(|| text(server)),
        ..seen
    };
    ((request != Request::default()).then_some(request), notes)
}

fn note(text: String) -> Evidence {
    Evidence {
        time: None,
        event: "log",
        text,
    }
}

/// The request's line. Of one that was cut, the log has all.
fn line(case: &Case, head: &RequestHead) -> String {
    let is_whole = head
        .line
        .rsplit_once(' ')
        .is_some_and(|(_, version)| version.starts_with("HTTP/"));
    let longer = || {
        let mut lines = case.sure_lines().filter_map(|line| line.request.as_ref());
        lines.find(|logged| logged.starts_with(&head.line)).cloned()
    };
    let longer = if is_whole { None } else { longer() };
    longer.unwrap_or_else(|| head.line.clone())
}

/// Addresses may be written in several ways; nginx cuts a long line.
fn is_same(seen: &str, logged: &str) -> bool {
    let address = |text: &str| text.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
    match (address(seen), address(logged)) {
        (Some(seen), Some(logged)) => seen == logged,
        _ => seen.starts_with(logged),
    }
}
