//! The backend answered: `response-rejected`, `response-truncated`, `passed-through`.

use super::{
    cause::{ByHand, Cause},
    dying,
    ending::{ending, heard, is_reused, is_tls, received, response_began},
    errno,
    finding::Finding,
    http2,
    logged::{self, Logged},
    protocol,
    scene::Scene,
    wording,
};
use crate::{
    correlate::Course,
    event::{Body, Connection, Doing, LogCall, Said, Sent},
};

pub(super) static RESPONSE_REJECTED: Cause = Cause {
    id: "response-rejected",
    title: "the backend answered and nginx refused the answer",
    split: "Response bytes came, and nginx closed first; its log call names the rule (too big header, invalid header).",
    log_lines: &[
        "upstream sent too big header while reading response header from upstream",
        "upstream sent invalid header",
        "upstream sent \"Content-Length\" and \"Transfer-Encoding\" headers at the same time",
        "upstream sent unsupported FastCGI protocol version",
    ],
    logged: &[
        Logged::of(logged::REFUSED_RESPONSE),
        Logged::of(&[Said::Sent(Sent::NoHttp1Header)]).doing(&[Doing::ReadingHeader]),
    ],
    by_hand: ByHand {
        command: "curl -sv -o /dev/null http://ADDRESS/",
        shows: "its answer shows what the line names",
    },
    client_gets: "502",
    fix: "Too big header: proxy_buffer_size (and proxy_buffers). Invalid header or protocol: does the port speak what \
          the *_pass directive says?",
    matches: Some(rejected),
};

pub(super) static RESPONSE_TRUNCATED: Cause = Cause {
    id: "response-truncated",
    title: "the backend's connection ended in the body; the client got a short answer",
    split: "A FIN, a RST or nginx's timer after the header, before the promised length.",
    log_lines: &[
        "upstream prematurely closed connection while reading upstream",
        "recv() failed (104: Connection reset by peer) while reading upstream",
        "upstream timed out (110: Connection timed out) while reading upstream",
    ],
    logged: &[logged::BROKE_OFF, Logged::of(logged::BROKEN_HTTP2)],
    by_hand: ByHand {
        command: "curl -so /dev/null http://ADDRESS/; echo $?",
        shows: "it ends with 18 (partial file) or 56 (reset)",
    },
    client_gets: "the original status, truncated",
    fix: "The backend's own log: an error or a time limit while it writes the body.",
    matches: Some(truncated),
};

pub(super) static PASSED_THROUGH: Cause = Cause {
    id: "passed-through",
    title: "the backend itself answered 502 or 504",
    split: "A clean connection whose response carries that status; nginx passed it on, replaced its page \
            (proxy_intercept_errors), or tried the next upstream for it (proxy_next_upstream http_502).",
    log_lines: &[],
    logged: &[],
    by_hand: ByHand {
        command: "curl -so /dev/null -w '%{http_code}\\n' http://ADDRESS/",
        shows: "the backend itself answers 502 or 504 (nginx logs no error)",
    },
    client_gets: "502 or 504, as the backend sent it",
    fix: "Look for the cause at the backend: it is itself a proxy (a gateway, a sidecar, a load balancer).",
    matches: Some(passed_through),
};

/// nginx's own word on the rule that the response broke.
pub(super) fn rule<'a>(scene: &Scene<'a>) -> Option<&'a LogCall> {
    let sent = scene.logged(|said| matches!(said, Said::Sent(_)));
    let others = [
        Said::RejectedRequest,
        Said::PrematurelyClosedFastCgi,
        Said::PrematurelyClosedStream,
    ];
    sent.filter(|call| !call.said().is_harmless())
        .or_else(|| others.into_iter().find_map(|said| scene.said(said)))
}

/// nginx's own word on how the upstream broke its response off.
fn broken<'a>(scene: &Scene<'a>) -> Option<&'a LogCall> {
    scene.logged(Said::breaks_http2)
}

fn rejected(scene: &Scene<'_>) -> Option<Finding> {
    if scene.attempt.is_none()
        && let Some(call) = scene.said(Said::AuthStatus)
    {
        return Some(unauthorized(scene, call));
    }
    if let Some(finding) = protocol::http2_for_http1(scene) {
        return Some(finding);
    }
    if let Some(finding) = rejected_in_body(scene) {
        return Some(finding);
    }
    let c = scene.failed_before_body().filter(|c| heard(c))?;
    if http2::goodbye(scene).is_some() {
        return None;
    }
    if let Some(call) = rule(scene) {
        let finding = Finding::proven(format!(
            "{} answered, and nginx refused the answer: {}",
            scene.to(),
            said(call)
        ))
        .rests_on_complete_records(scene);
        return Some(by_rule(scene, c, call, finding));
    }
    // Without its word: nginx closed, no timer, and the upstream had not ended it before.
    let answered = !scene.is_last() || scene.case.status == Some(502);
    if !response_began(c)
        || !answered
        || scene.timed_out_waiting()
        || scene.logged(Said::is_prematurely_closed).is_some()
        || c.end_read
            .is_some_and(|at| at >= c.reused_at.unwrap_or_default())
        || ending(c).is_some_and(|ending| ending.reset || ending.reset_after.is_some())
        || c.transfer_error.is_some()
    {
        return None;
    }
    let bytes = match received(c) {
        n if n > 0 && !is_reused(c) && !is_tls(c) => format!("after {}", wording::count(n, "byte")),
        _ => "in the response's header".to_owned(),
    };
    let finding = Finding::inferred(
        format!(
            "{} answered, and nginx closed the connection first, {bytes}",
            scene.to()
        ),
        "which rule the answer broke: nginx logged nothing (its error_log is above level error)",
    )
    .rests_on_complete_records(scene);
    Some(by_kind(scene, c, None, finding))
}

/// The answer to a subrequest of `auth_request` that nginx does not take for one.
fn unauthorized(scene: &Scene<'_>, call: &LogCall) -> Finding {
    let status = call
        .number
        .map_or_else(|| "another status".to_owned(), |status| status.to_string());
    Finding::proven(format!(
        "the service of auth_request answered {status}, which is neither 2xx, 401 nor 403: nginx answers 500"
    ))
    .rests_on_complete_records(scene)
    .fact("subrequest", "the subrequest failed, not the location's own upstream, which nginx did not try")
    .advise("have the authorization service answer 2xx, 401 or 403; to redirect to a login page, map 401: error_page 401 = /login")
    .advise("confirm: nginx -T 2>/dev/null | grep -n auth_request; then curl -sv the location's proxy_pass address")
}

/// The client has a part of a response that nginx then refused.
fn rejected_in_body(scene: &Scene<'_>) -> Option<Finding> {
    let c = scene.connection().filter(|_| scene.in_body())?;
    // An HTTP/2 body of another length is cut short.
    let call = rule(scene).filter(|call| !call.said().breaks_http2())?;
    let to = scene.to();
    let status = scene.case.client_status.or(scene.case.status);
    let got = status.map_or_else(
        || "a part of it".to_owned(),
        |status| format!("a {status} {}", cut_short(c)),
    );
    let finding = Finding::proven(format!(
        "{to} broke the protocol in the body of its response: {}; the client got {got}",
        said(call)
    ))
    .rests_on_complete_records(scene);
    let finding = had_come(c, finding);
    Some(if call.said() == Said::Sent(Sent::Chunked) {
        finding
            .fact("protocol", "a chunk's size line was expected where other bytes came")
            .advise("look for output that bypasses the server's chunked encoding: a warning printed into the body, a second Content-Length, a proxy that rewrites the body")
            .advise(format!("see the raw chunks: curl -sv --raw -o - http://{to}/ | head -c 4096 | xxd"))
    } else {
        finding.advise(
            "look at the backend's own log for that moment: what it sends breaks its protocol",
        )
    })
}

/// `cut short at 5 of 5000 bytes`, as far as that was counted.
pub(super) fn cut_short(c: &Connection) -> String {
    match c.body {
        Some(Body {
            read,
            length: Some(length),
        }) if read < length => {
            format!("cut short at {read} of {}", wording::count(length, "byte"))
        }
        Some(Body { read, length: None }) => format!(
            "cut short after {} of an unknown length",
            wording::count(read, "byte")
        ),
        _ => "cut short".to_owned(),
    }
}

/// How much of a response had come.
fn had_come(c: &Connection, finding: Finding) -> Finding {
    match (received(c), c.first_byte) {
        (n, Some(first)) if n > 0 && !is_reused(c) => finding.fact(
            "body",
            format!(
                "{} had come in {}",
                wording::count(n, "byte"),
                wording::duration(c.closed.since(first))
            ),
        ),
        _ => finding,
    }
}

/// nginx's format with the error code or the header's name, and without what its other arguments
/// would fill.
fn said(call: &LogCall) -> String {
    let words = without_arguments(call);
    match (call.http2_error(), call.number, &call.text) {
        (Some(code), ..) => format!("{words} {code} ({})", http2::error_name(code)),
        (None, Some(number), _) => format!("{words} {number}"),
        (None, None, Some(name)) => format!("{words} {}", wording::quoted(name)),
        (None, None, None) => words,
    }
}

fn without_arguments(call: &LogCall) -> String {
    let words = call.format.split('%').next().unwrap_or_default();
    let words = words.trim_end_matches(['"', ' ', ':']);
    let words = words.strip_prefix("upstream ").unwrap_or(words);
    // An odd quote is the beginning of an argument.
    if words.matches('"').count().is_multiple_of(2) {
        format!("it {words}")
    } else {
        format!("it {words}\"")
    }
}

fn by_rule(scene: &Scene<'_>, c: &Connection, call: &LogCall, finding: Finding) -> Finding {
    let advice = call.http2_error().and_then(http2::advice);
    let finding = finding.advise_if(advice.map(str::to_owned));
    let header = call
        .text
        .as_deref()
        .filter(|_| call.said() == Said::Sent(Sent::Header));
    let finding = finding.advise_if(header.map(|name| {
        format!(
            "correct the header {} that the backend, or a proxy before it, sends",
            wording::quoted(name)
        )
    }));
    by_kind(scene, c, Some(call.said()), finding)
}

fn by_kind(scene: &Scene<'_>, c: &Connection, said: Option<Said>, finding: Finding) -> Finding {
    let to = scene.to();
    let finding = protocol::by_first_byte(scene, c, finding);
    let pass = scene.scheme().unwrap_or("proxy");
    let finding = match said {
        Some(Said::Sent(Sent::TooBigHeader)) => finding
            .advise(format!("{pass}_buffer_size 16k; (and {pass}_buffers 8 16k; {pass}_busy_buffers_size 32k;): the header is longer than it"))
            .advise("find what makes the header so long: cookies that pile up, a token, a debug header"),
        Some(Said::Sent(Sent::UnexpectedFrame | Sent::Http2)) => finding.advise(format!("does {to} speak HTTP/2 (gRPC) without TLS? see: curl -v --http2-prior-knowledge http://{to}/")),
        Some(Said::Sent(Sent::FastCgi) | Said::PrematurelyClosedFastCgi) => finding.advise(format!("does {to} speak FastCGI? its log; is proxy_pass meant?")),
        Some(Said::RejectedRequest | Said::Sent(Sent::Goaway | Sent::GoawayFrame)) => finding.advise("the backend refused the stream itself (RST_STREAM, GOAWAY): its own log says why"),
        None => finding
            .advise(format!("error_log at level error says which rule; the usual one is a header longer than {pass}_buffer_size (4k or 8k)")),
        Some(_) => finding.advise("the backend's response header breaks the protocol: its code, or what it puts into headers"),
    };
    finding.advise(format!("see the header: {}", wording::fetch(&to)))
}

/// The same in a sentence that begins with the upstream.
fn how_broken(call: &LogCall) -> String {
    match call.said() {
        Said::PrematurelyClosedStream => "ended its stream too early".to_owned(),
        Said::Sent(Sent::BodyTooLarge) => "sent more than its content-length".to_owned(),
        _ => {
            let said = said(call);
            said.strip_prefix("it ").unwrap_or(&said).to_owned()
        }
    }
}

fn truncated(scene: &Scene<'_>) -> Option<Finding> {
    let c = scene.connection().filter(|_| scene.in_body())?;
    let is_another = super::session::session(scene).is_some()
        || super::storage::call(scene).is_some()
        || rule(scene).is_some_and(|call| !call.said().breaks_http2())
        || protocol::http2_for_http1(scene).is_some();
    if is_another {
        return None;
    }
    let seen = ending(c);
    let closed = scene.peer_closed();
    let exited = || scene.leaving().and_then(|leaving| leaving.death);
    let died = closed
        .and_then(|closed| closed.death.as_ref())
        .or_else(exited);
    let timed_out = scene.said(Said::TimedOut).is_some();
    let announced = c.broke_off || scene.logged(Said::is_prematurely_closed).is_some();
    let to = scene.to();
    let (how, shown) = match seen {
        _ if died.is_some() => (String::new(), true),
        _ if timed_out => ("sent nothing more until nginx's timer".to_owned(), true),
        Some(ending) if ending.reset => ("reset the connection".to_owned(), announced),
        Some(_) => ("closed the connection".to_owned(), announced),
        None => ("broke off".to_owned(), announced),
    };
    let (how, shown) = match broken(scene) {
        Some(call) if died.is_none() => (how_broken(call), true),
        _ => (how, shown),
    };
    let what = match died {
        Some(death) => format!(
            "{} (pid {}), which served {to}, {}",
            death.name,
            death.pid,
            dying::how(death)
        ),
        None => format!("{to} {how}"),
    };
    let status = scene
        .case
        .client_status
        .or(scene.case.status)
        .map_or_else(|| "an answer".to_owned(), |status| format!("a {status}"));
    let finding = Finding::proven(format!(
        "{what} in the body of its response; the client got {status} {}",
        cut_short(c)
    ))
    .unless(
        shown,
        "whether the response had its full length: nginx logged nothing of it",
    )
    .rests_on_complete_records(scene);
    let finding = had_come(c, finding);
    let by_errno = c.transfer_error.map(|(e, _)| errno::name(e));
    let finding = match by_errno {
        Some(errno) => finding.fact("transfer", format!("nginx's read or write failed: {errno}")),
        None => finding,
    };
    let advice = match died {
        Some(death) => format!("why did {} end? its log, a core dump, its service manager", death.name),
        None if timed_out => "what does the backend do in that pause? proxy_read_timeout longer, only if such pauses are right".to_owned(),
        None => "look at the backend's own log for that moment: an error or a time limit while it writes the body".to_owned(),
    };
    Some(
        finding
            .advise(advice)
            .advise("fix it at the backend: nginx cannot retry once the client has the header"),
    )
}

fn passed_through(scene: &Scene<'_>) -> Option<Finding> {
    let attempt = scene.attempt?;
    let status = match &attempt.course {
        Course::Connection(_) => scene.answered_itself()?,
        // Kept alive and still open.
        Course::Succeeded => scene.case.status.filter(|status| {
            !scene.case.masked && scene.is_last() && matches!(status, 502 | 504)
        })?,
        Course::FailedAtOnce(_) | Course::Logged => return None,
    };
    let to = scene.to();
    let next = if scene.is_last() {
        ""
    } else {
        "; nginx tried another upstream (proxy_next_upstream)"
    };
    Some(
        Finding::proven(format!("{to} itself answered {status}{next}"))
            .rests_on_complete_records(scene)
            .fact("beyond", "what the backend met is beyond this host's nginx")
            .advise(format!("look at {to}: it is a proxy itself, or says {status} for an error of its own; its log says why"))
            .advise(format!("see: {}", wording::fetch(&to))),
    )
}
