//! From a case to its verdict: every cause looks at it, one that fits better than all others is
//! named.

use super::{
    alone, catalogue,
    cause::Cause,
    context, errno,
    finding::Finding,
    looped, no_live, request,
    scene::{Earlier, Scene},
    story, unexplained,
};
use crate::{
    correlate::{Attempt, Case, Course},
    event::{FailureKind, LogCall, Said, Time, Upstream},
    verdict::{AttemptVerdict, Evidence, Verdict},
};

/// Advice is read under pressure: the most useful lines only.
const ADVICE_LINES: usize = 4;

/// The verdict on a case. `None`: no upstream failed in it (a 500 of another origin, a masked case
/// without failure).
#[must_use]
pub fn judge(case: &Case) -> Option<Verdict> {
    if !is_ours(case) {
        return None;
    }
    let attempt = telling_attempt(case);
    let earlier = earlier(case, attempt);
    let scene = Scene {
        earlier: &earlier,
        ..Scene::of(case, attempt)
    };
    let (cause, finding) = match log_of_unseen(case, attempt) {
        Some(call) => (
            &unexplained::UNEXPLAINED,
            unexplained::explain_unseen(&scene, call),
        ),
        None => diagnose(&scene),
    };
    let finding = context::complete(&scene, cause, finding);
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
    // Events by their time; states of the host after them, as they were reported.
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
        upstream_name: if is_without_peer {
            no_live::block(&scene)
        } else {
            case.names.as_ref().and_then(|names| names.block.clone())
        },
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

/// Did the client get a whole answer that was meant for it, and not a server's error?
fn is_hidden(case: &Case) -> bool {
    !case.cut_short
        && context::failed_page(case).is_none()
        && case.client_status.is_some_and(|status| status < 500)
}

/// A 500 is an upstream's matter only where nginx failed on the way to it; a masked case needs a
/// failure.
fn is_ours(case: &Case) -> bool {
    if case.masked {
        return telling_attempt(case).is_some();
    }
    if case.status != Some(500) || case.cut_short || case.is_returned {
        return true;
    }
    let before_connect = |attempt: &Attempt| matches!(&attempt.course, Course::FailedAtOnce(failure) if failure.kind() == FailureKind::BeforeConnect);
    let is_limit = |said: Said| match said {
        Said::NoWorkerConnections | Said::SocketFailed | Said::BindFailed | Said::AuthStatus => {
            true
        }
        said => said.is_of_storage_or_folder(),
    };
    case.attempts.last().is_some_and(before_connect)
        || case.log_calls.iter().any(|call| is_limit(call.said()))
}

/// The attempt that the request's cause is the cause of: the last; if a retry hid the failure or
/// nginx ran out of peers after it, the last that failed.
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

/// nginx logs each failure before it closes the socket: a line between the attempts is of one whose
/// record is lost. Where that came after the reported attempt, or no failed attempt is left, the
/// cause may be its own.
fn log_of_unseen<'a>(case: &'a Case, reported: Option<&Attempt>) -> Option<&'a LogCall> {
    // Of a unix connection the record is written when its end is read, before nginx logs.
    let reported = reported.filter(|reported| {
        !matches!(&reported.course, Course::Connection(c) if matches!(c.remote, Upstream::Unix(_)))
    })?;
    let next = case
        .attempts
        .iter()
        .skip_while(|attempt| !std::ptr::eq(*attempt, reported))
        .nth(1)
        .map_or(Time(u64::MAX), |next| next.start);
    case.log_calls.iter().find(|call| {
        let after = call.at > reported.end && call.at < next;
        let instead = is_busy(reported) && call.at < reported.start;
        (after || instead)
            && call.said() != Said::NoLiveUpstreams
            && !follows_a_failure(call.said())
    })
}

/// nginx says what came of a failure: of a page, of the main request, of the response that a slice
/// is a part of.
fn follows_a_failure(said: Said) -> bool {
    matches!(said, Said::Page | Said::AuthStatus) || said.is_of_slice()
}

/// The failures that closed the peers to a request for which nginx found none, with their causes,
/// the latest first.
fn earlier<'a>(case: &'a Case, attempt: Option<&Attempt>) -> Vec<Earlier<'a>> {
    if attempt.is_some_and(|attempt| !is_busy(attempt)) {
        return Vec::new();
    }
    let attempts = case.earlier.iter().rev().flat_map(|case| {
        let attempts = case.attempts.iter().rev();
        attempts.map(move |attempt| (case, attempt))
    });
    attempts
        .filter(|(_, attempt)| !is_busy(attempt) && !attempt.has_response())
        .map(|(case, attempt)| Earlier {
            attempt,
            cause: diagnose(&Scene::of(case, Some(attempt))).0.id,
        })
        .collect()
}

/// nginx asked its balancer for a peer and got none (`NGX_BUSY`): no attempt at an upstream.
fn is_busy(attempt: &Attempt) -> bool {
    matches!(&attempt.course, Course::FailedAtOnce(failure) if failure.kind() == FailureKind::NoPeer)
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
    let scene = Scene::of(case, Some(attempt));
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
    reported: Option<&'a Attempt>,
) -> impl Iterator<Item = Evidence> + 'a {
    case.attempts
        .iter()
        .filter(move |attempt| !reported.is_some_and(|reported| std::ptr::eq(reported, *attempt)))
        .map(|attempt| {
            let scene = Scene::of(case, Some(attempt));
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
