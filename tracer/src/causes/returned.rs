//! nginx answers by its configuration alone: `returned-by-config`.

use super::{
    cause::{ByHand, Cause},
    finding::Finding,
    logged::Logged,
    scene::Scene,
};
use crate::event::{LogCall, Said, fact::ConfigLine};

pub(super) static RETURNED_BY_CONFIG: Cause = Cause {
    id: "returned-by-config",
    title: "nginx's configuration answers with this status; no upstream was involved",
    split: "nginx runs a `return` with a status of 500 or above, or makes a 502 or 504 for a request that has no \
            upstream, without any attempt: `try_files … =502`, `limit_req_status 502`. The line is named where the \
            configuration can be read.",
    log_lines: &[],
    logged: &[Logged::of(&[Said::Limiting]).anywhere()],
    by_hand: ByHand {
        command: "sudo nginx -T 2>/dev/null | grep -nE 'limit_(req|conn)|return 5'",
        shows: "limit_req_status or limit_conn_status names the status",
    },
    client_gets: "the status that the configuration names, or what error_page makes of it",
    fix: "If this is not meant (a maintenance page, a default server): change the line that is named.",
    matches: Some(returned),
};

/// Those lines whose location takes the request, if any does: the longest. Regular expressions are
/// not tried.
fn of_request<'a>(scene: &Scene<'_>, lines: Vec<&'a ConfigLine>) -> Vec<&'a ConfigLine> {
    let head = scene.case.head.as_ref();
    let path = head.and_then(|head| head.line.split(' ').nth(1));
    let Some(path) = path.map(|path| path.split('?').next().unwrap_or(path)) else {
        return lines;
    };
    let taken = |line: &&ConfigLine| {
        let location = line.location.as_deref()?;
        let is_its = match location.split_once(' ') {
            Some(("=", exact)) => path == exact,
            Some(("^~", prefix)) => path.starts_with(prefix),
            Some(_) => false,
            None => path.starts_with(location),
        };
        is_its.then_some(location.len())
    };
    let longest = lines.iter().filter_map(taken).max();
    let own: Vec<&ConfigLine> = lines
        .iter()
        .filter(|line| longest.is_some() && taken(line) == longest)
        .copied()
        .collect();
    if own.is_empty() { lines } else { own }
}

fn returned(scene: &Scene<'_>) -> Option<Finding> {
    let case = scene.case;
    let status = case
        .status
        .filter(|_| !case.has_upstream && case.attempts.is_empty() && !case.is_alone)?;
    // Of an nginx whose members lie elsewhere, its words alone say that there was an upstream.
    let is_of_upstream = |call: &LogCall| call.said().mentions_upstream();
    if !case.is_returned && (status == 500 || case.log_calls.iter().any(is_of_upstream)) {
        return None;
    }
    let limited = scene.said(Said::Limiting).filter(|_| !case.is_returned);
    let view = case.host.returns.as_ref();
    let lines = view.map_or(&[][..], |view| &view.lines);
    let scripted = view.is_some_and(|view| view.scripted) && !case.is_returned;
    let by_limit = |line: &ConfigLine| line.text.starts_with("limit_");
    let by_return = |line: &ConfigLine| line.text.starts_with("return ");
    let meant = lines.iter().filter(|line| match limited {
        _ if case.is_returned => by_return(line),
        Some(_) => by_limit(line),
        None => !by_limit(line),
    });
    let meant: Vec<&ConfigLine> = meant.collect();
    let meant = of_request(scene, meant);
    let place = match meant.as_slice() {
        [] => String::new(),
        [one] => format!(": {} ({}:{})", one.text, one.file, one.line),
        [first, rest @ ..] => format!(
            ": {} ({}:{}) or {} more",
            first.text,
            first.file,
            first.line,
            rest.len()
        ),
    };
    let what = if limited.is_some() {
        "limits this client"
    } else {
        "answers this request"
    };
    let finding = Finding::proven(format!(
        "nginx itself {what} with {status} by its configuration{place}; it tried no upstream"
    ));
    let finding = match view {
        Some(_) if meant.is_empty() && scripted => finding.unless(
            false,
            "which line: the configuration runs scripts (Lua, njs, Perl), which may answer with any status",
        ),
        Some(_) if meant.is_empty() => finding.unless(
            false,
            format!("which line: none of the configuration's files names {status} now"),
        ),
        None if !case.is_returned && limited.is_none() => finding.unless(
            false,
            "which line: the configuration was not read, and a script (Lua, njs, Perl) may answer so, too",
        ),
        _ => finding,
    };
    let mut finding = finding.rests_on_complete_records(scene);
    for line in meant.iter().skip(1) {
        finding = finding.fact(
            "config",
            format!("{}:{}: {}", line.file, line.line, line.text),
        );
    }
    let search = "see: nginx -T 2>/dev/null | grep -nE";
    Some(match meant.first() {
        Some(line) => finding
            .advise(format!(
                "change {}:{} if this answer is not meant: {}",
                line.file, line.line, line.text
            ))
            .advise(format!("{search} 'return +{status}|={status}|_status +{status}'")),
        None => finding.advise(format!(
            "find what answers so: nginx -T 2>/dev/null | grep -nE 'return +{status}|={status}|_status +{status}|_by_lua|js_'"
        )),
    })
}
