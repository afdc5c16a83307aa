//! The catalogue of causes: from a [`Case`] to a [`Verdict`]. Pure, and total: every case has a verdict, or none is due.
//!
//! Each cause looks at one attempt and says whether it fits, and how sure that is. One that fits better than all others
//! is the verdict; if none does, or two fit alike, it is `unexplained`: a wrong verdict is worse.

mod addresses;
mod alone;
pub mod catalogue;
mod closed;
mod crowd;
mod death;
mod denied;
mod dns;
mod drops;
mod dying;
mod early;
mod ending;
pub mod errno;
mod exchange;
mod finding;
mod firewall;
mod handshake;
mod hook;
mod http2;
mod icmp;
mod keepalive;
mod leaving;
mod limits;
mod looped;
mod names;
mod no_live;
mod programs;
mod protocol;
mod queues;
mod refused;
mod request;
mod response;
mod returned;
mod routes;
mod scene;
mod session;
mod storage;
mod story;
#[cfg(test)]
mod tests;
mod timeouts;
mod tls;
mod unexplained;
mod unix;
mod unreachable;
mod waiting;
mod wording;

use self::{catalogue::Cause, finding::Finding, scene::Scene};
use crate::{
    correlate::{AUTH_STATUS, Attempt, Case, Course, tells_of_storage_or_folder},
    event::{LogCall, Time, Upstream},
    verdict::{AttemptVerdict, Evidence, Verdict},
};

/// Advice is read under pressure: the most useful lines only.
const ADVICE_LINES: usize = 4;

/// The verdict on a case. `None`: no upstream failed in it (a 500 of another origin, a masked case without failure).
#[must_use]
pub fn judge(case: &Case) -> Option<Verdict> {
    if !is_ours(case) {
        return None;
    }
    let attempt = telling_attempt(case);
    let scene = Scene { case, attempt };
    let (cause, finding) = match log_of_unseen(case, attempt) {
        Some(call) => (
            &unexplained::UNEXPLAINED,
            unexplained::explain_unseen(&scene, call),
        ),
        None => diagnose(&scene),
    };
    let finding = finding.unless(
        !case.is_alone,
        "what nginx itself did: its functions cannot be seen, only the kernel's word and its log's",
    );
    let finding = forwarded(&scene, cause, in_container(&scene, finding));
    let finding = moved(&scene, finding);
    let finding = with_effect(&scene, finding);
    let finding = with_reasons(&scene, cause, finding);
    let is_masked = case.masked || is_hidden(case);
    let is_doubtful = cause.id == unexplained::UNEXPLAINED.id || scene.is_unread();
    if is_masked && is_doubtful && !case.skipped.is_empty() && case.log_calls.is_empty() {
        // That it failed may be no more than the missing trace of its success.
        return None;
    }
    let mut evidence = story::tell(&scene);
    evidence.extend(other_attempts(case, attempt));
    evidence.extend(finding.evidence);
    let (request, notes) = request::named(case);
    evidence.extend(notes);
    // Events by their time; states of the host after them, as they were told.
    evidence.sort_by_key(|evidence| (evidence.time.is_none(), evidence.time));
    let is_without_peer = case.attempts.last().is_some_and(is_busy);
    let mut advice = finding.advice;
    advice.truncate(ADVICE_LINES);
    Some(Verdict {
        time: case.time,
        status: case.client_status.or(case.status),
        masked: is_masked,
        cause: cause.id,
        confidence: finding.confidence,
        worker: case.worker,
        unit: case
            .identity
            .as_ref()
            .and_then(|worker| worker.unit.clone()),
        connection: case.connection,
        request,
        upstream: scene.upstream(),
        upstream_name: no_live::block(&scene).filter(|_| is_without_peer),
        errno: scene.errno().map(errno::name),
        attempts: case
            .attempts
            .iter()
            .map(|attempt| summary_of(case, attempt))
            .collect(),
        summary: finding.summary,
        evidence,
        advice,
        lost_events: case.lost_events,
    })
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

/// Where the configuration has a name for the upstream, its address may be one of before: nginx looked it up at its start.
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

/// Did the client get a whole answer that was meant for it, and not a server's error?
fn is_hidden(case: &Case) -> bool {
    !case.cut_short
        && failed_page(case).is_none()
        && case.client_status.is_some_and(|status| status < 500)
}

/// nginx's word on an error page that it could not give: the client got the page's own failure.
fn failed_page(case: &Case) -> Option<&LogCall> {
    let is_answered = case.status.is_some_and(|status| status >= 500);
    let is_refused = case
        .client_status
        .is_some_and(|status| matches!(status, 403 | 404));
    let end = case.attempts.last().map_or(Time(0), |attempt| attempt.end);
    let mut calls = case.log_calls.iter();
    calls
        .find(|call| call.at >= end && is_of_page(&call.format))
        .filter(|_| is_answered && is_refused)
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
    if scene.attempt.is_some() && scene.log_call(AUTH_STATUS).is_some() {
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
        .filter(|line| line.message.contains("\" failed (") || line.message.contains("forbidden"))
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

/// A 500 is an upstream's matter only where nginx failed on the way to it; a masked case needs a failure.
fn is_ours(case: &Case) -> bool {
    if case.masked {
        return telling_attempt(case).is_some();
    }
    if case.status != Some(500) || case.cut_short || case.is_returned {
        return true;
    }
    let before_connect = |attempt: &Attempt| matches!(&attempt.course, Course::FailedAtOnce(failure) if failure.code == -1);
    let limit = |format: &str| {
        format.contains("worker_connections are not enough")
            || format.starts_with("socket() failed")
            || format.starts_with("bind(")
            || tells_of_storage_or_folder(format)
            || format.starts_with(AUTH_STATUS)
    };
    case.attempts.last().is_some_and(before_connect)
        || case.log_calls.iter().any(|call| limit(&call.format))
}

/// The attempt that the request's cause is the cause of: the last; if a retry hid the failure or nginx ran out of
/// peers after it, the last that failed.
fn telling_attempt(case: &Case) -> Option<&Attempt> {
    let failed = || {
        case.attempts
            .iter()
            .rev()
            .find(|attempt| !is_busy(attempt) && !matches!(attempt.course, Course::Succeeded))
    };
    let last = case.attempts.last()?;
    if case.masked {
        return failed();
    }
    if is_busy(last) {
        failed().or(Some(last))
    } else {
        Some(last)
    }
}

/// nginx logs each failure before it closes the socket: a line between the attempts is of one whose record is lost. Where
/// that came after the attempt told of, or no failed attempt is left, the cause may be its own.
fn log_of_unseen<'a>(case: &'a Case, told: Option<&Attempt>) -> Option<&'a LogCall> {
    // Of a unix connection the record is written when its end is read, before nginx logs.
    let told = told.filter(|told| {
        !matches!(&told.course, Course::Connection(c) if matches!(c.remote, Upstream::Unix(_)))
    })?;
    let next = case
        .attempts
        .iter()
        .skip_while(|attempt| !std::ptr::eq(*attempt, told))
        .nth(1)
        .map_or(Time(u64::MAX), |next| next.start);
    case.log_calls.iter().find(|call| {
        let after = call.at > told.end && call.at < next;
        let instead = is_busy(told) && call.at < told.start;
        (after || instead)
            && !call.format.contains("no live upstreams")
            && !follows_a_failure(&call.format)
    })
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

/// nginx says what came of a failure: of a page, of the main request, of the response that a slice is a part of.
fn follows_a_failure(format: &str) -> bool {
    is_of_page(format) || format.starts_with(AUTH_STATUS) || format.contains("in slice response")
}

/// nginx's words on a page that it cannot give (src/http/modules/ngx_http_static_module.c, ngx_http_autoindex_module.c,
/// src/http/ngx_http_core_module.c).
fn is_of_page(format: &str) -> bool {
    format.starts_with("%s \"%s\" failed")
        || format.starts_with("directory index of")
        || format.starts_with("access forbidden by rule")
        || format.contains("is not a directory")
}

/// nginx asked its balancer for a peer and got none (`NGX_BUSY`): no attempt at an upstream.
fn is_busy(attempt: &Attempt) -> bool {
    matches!(&attempt.course, Course::FailedAtOnce(failure) if failure.code == -3)
}

/// The one cause that fits best, or `unexplained`.
fn diagnose(scene: &Scene<'_>) -> (&'static Cause, Finding) {
    let mut fits: Vec<(&'static Cause, Finding)> = catalogue::all()
        .iter()
        .filter_map(|cause| Some((*cause, cause.matches?(scene)?)))
        .collect();
    // What the last hop met is what the loop led to.
    let is_loop = |(cause, _): &(&Cause, Finding)| cause.id == looped::PROXY_LOOP.id;
    if fits.iter().any(is_loop) {
        fits.retain(is_loop);
    }
    let best = fits.iter().map(|(_, finding)| finding.confidence).max();
    fits.retain(|(_, finding)| Some(finding.confidence) == best);
    if fits.is_empty()
        && let Some(said) = alone::by_words(scene)
    {
        return said;
    }
    match fits.pop() {
        Some(only) if fits.is_empty() => only,
        popped => {
            fits.extend(popped);
            (
                &unexplained::UNEXPLAINED,
                unexplained::explain(scene, &fits),
            )
        }
    }
}

fn summary_of(case: &Case, attempt: &Attempt) -> AttemptVerdict {
    let scene = Scene {
        case,
        attempt: Some(attempt),
    };
    let succeeded = case.masked && matches!(attempt.course, Course::Succeeded);
    AttemptVerdict {
        upstream: scene.upstream(),
        cause: (!succeeded).then(|| diagnose(&scene).0.id),
        errno: scene.errno().map(errno::name),
        reused: attempt.reused,
        start: attempt.start,
        end: attempt.end,
    }
}

/// The other attempts, a line each.
fn other_attempts<'a>(
    case: &'a Case,
    told: Option<&'a Attempt>,
) -> impl Iterator<Item = Evidence> + 'a {
    case.attempts
        .iter()
        .filter(move |attempt| !told.is_some_and(|told| std::ptr::eq(told, *attempt)))
        .map(|attempt| {
            let scene = Scene {
                case,
                attempt: Some(attempt),
            };
            let text = match &attempt.course {
                Course::Succeeded => format!("nginx tries {}: it serves the request", scene.to()),
                _ if is_busy(attempt) => {
                    "nginx asks for another upstream: there is none it may use".to_owned()
                }
                _ => format!("nginx tries {}: {}", scene.to(), diagnose(&scene).0.id),
            };
            Evidence {
                time: Some(attempt.start),
                event: "attempt",
                text,
            }
        })
}
