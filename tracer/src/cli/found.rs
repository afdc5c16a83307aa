//! How an nginx binary was read: which functions and members were found, and what is lost without
//! the others.

use tracer_ebpf::abi::Members;

use crate::{
    nginx::{Entries, Master},
    probe::SIGHTS,
};

/// One line for each function that was not found or is not attached to at its first instruction,
/// and one for the members. `assumed`: the members that `--layout` names.
pub(super) fn found(master: &Master, assumed: Option<Members>) -> Vec<String> {
    let functions = &master.binary.functions;
    let mut lines = Vec::new();
    for sight in SIGHTS {
        let mut hooks = sight.ways.iter().copied().flatten();
        if let Some(missing) =
            hooks.find(|hook| hook.place.is_nginx() && !functions.contains_key(hook.place.name()))
        {
            let function = missing.place.name();
            lines.push(format!("{function} was not found: {}", sight.without));
        }
    }
    for (function, entries) in functions {
        if let Some(how) = how_found(entries) {
            lines.push(format!("{function} is attached to {how}"));
        }
    }
    if master.binary.requests == 0 {
        lines.push(
            "its request counter was not found: requests of one client within one millisecond \
             may be taken for one"
                .to_owned(),
        );
    }
    lines.push(members(master.binary.members, assumed));
    lines
}

/// Where a function is attached to, if that is not its first instruction alone.
fn how_found(entries: &Entries) -> Option<String> {
    let mut how = Vec::new();
    if entries.is_marked {
        how.push("behind its endbr64".to_owned());
    }
    if entries.is_guess {
        how.push(
            "at the function that is called with nginx's log texts, as no symbol names it"
                .to_owned(),
        );
    }
    match (entries.own, entries.clones.len()) {
        (_, 0) => {}
        (Some(_), count) => how.push(format!("in {count} copies of it as well")),
        (None, count) => how.push(format!("in {count} copies, as it is absent itself")),
    }
    (!how.is_empty()).then(|| how.join(", "))
}

/// Where the objects have the members that move, before nginx's memory shows it.
fn members(expected: Members, assumed: Option<Members>) -> String {
    let places = |members: Members| {
        format!(
            "pc->log at {}, log->data at {}, r->upstream at {}",
            members.peer_log, members.log_data, members.upstream
        )
    };
    match assumed {
        Some(assumed) if !assumed.are_at(expected) => format!(
            "objects  {} by --layout, which its version and build do not have ({}); its memory \
             decides at its first failure",
            places(assumed),
            places(expected)
        ),
        _ if expected.peer_log == 0 => "objects  of an unknown version or build; its memory shows \
                                        how they are laid out at its first failure"
            .to_owned(),
        _ => format!(
            "objects  {} by its version and build; its memory decides at its first failure",
            places(expected)
        ),
    }
}
