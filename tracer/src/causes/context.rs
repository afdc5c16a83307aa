//! What a finding gains from its surroundings, whatever the cause: whose address it is, where a
//! forwarder leads, what the client got, why nginx tried no other server.

use super::{cause::Cause, errno, finding::Finding, response, scene::Scene, wording};
use crate::{
    correlate::Case,
    event::{LogCall, Said, Time, Upstream, is_line_of_page},
};

/// Adds what holds for all causes.
pub(super) fn complete(scene: &Scene<'_>, cause: &Cause, finding: Finding) -> Finding {
    let finding = finding.unless(
        !scene.case.is_alone,
        "what nginx itself did: its functions cannot be seen, only the kernel's word and its log's",
    );
    let finding = forwarded(scene, cause, in_container(scene, finding));
    let finding = moved(scene, finding);
    let finding = with_effect(scene, finding);
    with_reasons(scene, cause, finding)
}

/// Says whose address it is, where that is another network namespace's of this host.
fn in_container(scene: &Scene<'_>, finding: Finding) -> Finding {
    let Some(Upstream::Inet(remote)) = scene.attempt.and_then(|attempt| attempt.upstream.as_ref())
    else {
        return finding;
    };
    let reached = scene.translated().unwrap_or(*remote);
    let finding = match scene.translated() {
        Some(end) => finding.fact(
            "translated",
            format!("{remote} is translated to {end} (DNAT): that is where the connection led"),
        ),
        None => finding,
    };
    match scene.container() {
        Some(container) => finding.fact(
            "container",
            wording::container(container, reached.ip(), scene.case.time),
        ),
        None => finding,
    }
}

/// Where the configuration has a name for the upstream, its address may be one of before: nginx
/// looked it up at its start.
fn moved(scene: &Scene<'_>, mut finding: Finding) -> Finding {
    let Some(Upstream::Inet(remote)) = scene.attempt.and_then(|attempt| attempt.upstream.as_ref())
    else {
        return finding;
    };
    let ip = remote.ip().to_canonical();
    let view = scene.case.host.names.as_ref();
    let mut names = view.into_iter().flat_map(|view| &view.names);
    let Some(name) = names.find(|name| !name.now.contains(&ip)) else {
        return finding;
    };
    let (host, at) = (&name.name, &name.at);
    let shown = wording::quoted(host);
    let kept = format!("nginx looked up `{host}` at its start and keeps {ip}");
    let place = format!("{}:{}", at.file, at.line);
    match name.now.first() {
        Some(now) => {
            finding.advice.insert(
                0,
                format!("reload nginx (nginx -s reload): {kept}, and `{host}` is {now} now; confirm: getent hosts {shown}"),
            );
            finding.advice.insert(
                1,
                format!("to follow its changes without a reload: resolver, and a variable in the directive at {place}"),
            );
            let taken = match scene.container() {
                Some(_) => "; another container has that address now",
                None => "",
            };
            finding.fact(
                "name",
                format!("`{host}` ({place}) is {now} by the hosts file, not {ip}{taken}"),
            )
        }
        None => {
            let at = finding.advice.len().min(1);
            finding.advice.insert(
                at,
                format!("if {host} has another address now, reload nginx (nginx -s reload): {kept}; confirm: getent hosts {shown}"),
            );
            finding
        }
    }
}

/// Says where the connection leads that only a forwarder (docker-proxy, socat) has ended.
fn forwarded(scene: &Scene<'_>, cause: &Cause, mut finding: Finding) -> Finding {
    const ENDED: [&str; 5] = [
        "backend-died",
        "backend-reset",
        "backend-closed-early",
        "keepalive-race",
        "response-truncated",
    ];
    let mut views = scene.listener_views();
    let Some(forwarder) = views.find_map(|view| view.forwarder.as_deref()) else {
        return finding;
    };
    if !ENDED.contains(&cause.id) {
        return finding;
    }
    let name = &forwarder.name;
    let to = forwarder.to.as_deref().unwrap_or("another address");
    let confirm = forwarder.address.map_or_else(
        || {
            format!(
                "see where it leads: tr '\\0' ' ' < /proc/{}/cmdline",
                forwarder.pid
            )
        },
        |address| {
            let port = address.port();
            format!(
                "confirm: nsenter -t {} -n ss -ltnp 'sport = :{port}'",
                forwarder.pid
            )
        },
    );
    let (state, advice) = match forwarder.listens {
        Some(false) => (
            ", where nothing listens",
            format!("start the backend behind {name}: nothing listens on {to}; {confirm}"),
        ),
        Some(true) | None => (
            "",
            format!(
                "look at the backend behind {name}, {to}: {name} only passes on what that does; {confirm}"
            ),
        ),
    };
    let what = format!("{name} is a userland proxy: it only forwards to {to}{state}");
    if forwarder.listens == Some(false) {
        finding.summary = format!("{}; {what}", finding.summary);
        // What the forwarder's own log or limits say explains nothing.
        finding.advice.clear();
    }
    finding.advice.insert(0, advice);
    finding.fact("forwarder", format!("{what} (pid {})", forwarder.pid))
}

/// What came of it for the client, where the cause does not say it.
fn with_effect(scene: &Scene<'_>, mut finding: Finding) -> Finding {
    let case = scene.case;
    let got = case.client_status.or(case.status);
    if let (Some(status), true, false) = (got, case.cut_short, scene.in_body()) {
        finding.summary = format!(
            "{}; the client got a {status} cut short: its header had been sent",
            finding.summary
        );
    }
    if scene.attempt.is_some() && scene.said(Said::AuthStatus).is_some() {
        finding = finding.fact(
            "subrequest",
            "this was a subrequest of auth_request: nginx answered the request itself with 500, before its own upstream",
        );
    }
    let (Some(call), Some(status)) = (failed_page(case), case.client_status) else {
        return finding;
    };
    let failed = case.status.unwrap_or(502);
    let page = case
        .sure_lines()
        .filter(|line| is_line_of_page(&line.message))
        .find_map(|line| line.message.split('"').nth(1));
    let why = match call.errno {
        0 => String::new(),
        errno => format!(" ({})", errno::name(errno)),
    };
    let page = page.map_or_else(|| "its file".to_owned(), ToOwned::to_owned);
    finding.summary = format!(
        "{}; the error page for {failed} failed too, so the client got {status}",
        finding.summary
    );
    let mut finding = finding.fact("error-page", format!("nginx could not open {page}{why}"));
    let line = format!(
        "create {page}, or correct error_page {failed}; confirm: nginx -T 2>/dev/null | grep -n error_page"
    );
    finding.advice.insert(1.min(finding.advice.len()), line);
    finding
}

/// nginx's word on an error page that it could not give: the client got the page's own failure.
pub(super) fn failed_page(case: &Case) -> Option<&LogCall> {
    let is_answered = case.status.is_some_and(|status| status >= 500);
    let is_refused = case
        .client_status
        .is_some_and(|status| matches!(status, 403 | 404));
    let end = case.attempts.last().map_or(Time(0), |attempt| attempt.end);
    let mut calls = case.log_calls.iter();
    calls
        .find(|call| call.at >= end && call.said() == Said::Page)
        .filter(|_| is_answered && is_refused)
}

/// Why nginx tried nobody else, and whose a 504 is.
fn with_reasons(scene: &Scene<'_>, cause: &Cause, finding: Finding) -> Finding {
    let case = scene.case;
    let line = case.head.as_ref().map(|head| head.line.as_str());
    let logged = || case.sure_lines().find_map(|line| line.request.as_deref());
    let method = line.or_else(logged).and_then(|line| line.split(' ').next());
    // src/http/ngx_http_upstream.c, ngx_http_upstream_next().
    let is_sent = scene
        .connection()
        .is_some_and(|c| c.bytes_sent > 0 && !scene.in_handshake(c));
    let is_last = scene.is_last() && !case.masked && !case.cut_short;
    let is_nginxs = cause.id != response::PASSED_THROUGH.id;
    let finding = match method {
        Some(method @ ("POST" | "LOCK" | "PATCH")) if is_sent && is_last && is_nginxs => finding.fact(
            "retry",
            format!(
                "nginx tries no other server for a {method} that it has begun to send, unless proxy_next_upstream has \
                 non_idempotent"
            ),
        ),
        _ => finding,
    };
    match case.status {
        Some(504) if is_last && is_nginxs && scene.attempt.is_some() => finding.fact(
            "status",
            "the 504 is nginx's own, made as its timer ended the wait",
        ),
        Some(504) if is_last && !is_nginxs => finding.fact(
            "status",
            "the 504 is the backend's own answer, not nginx's timer",
        ),
        _ => finding,
    }
}
