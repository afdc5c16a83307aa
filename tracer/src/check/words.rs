//! Words of findings.

use crate::event::fact::{Inode, Listener, Owner};

/// `node (pid 4242)`.
pub(super) fn who(owner: &Owner) -> String {
    let unit = match &owner.unit {
        Some(unit) => format!(", {unit}"),
        None => String::new(),
    };
    format!("{} (pid {}{unit})", owner.name, owner.pid)
}

/// A listener's holder; `a program` where it is not known.
pub(super) fn holder(listener: &Listener) -> String {
    let owner = listener.owner.as_ref();
    owner.map_or_else(|| "a program".to_owned(), who)
}

/// `nobody:www-data, mode 660`.
pub(super) fn owner_and_mode(inode: &Inode) -> String {
    let name = |name: &Option<String>, number: u32| name.clone().unwrap_or(number.to_string());
    format!(
        "{}:{}, mode {:o}",
        name(&inode.user, inode.uid),
        name(&inode.group, inode.gid),
        inode.mode
    )
}

/// As a shell takes it, in quotes where it needs them: a path, a name or an address of a command.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./@:+[]%-".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// `2.5 s`, `200 ms`.
pub(super) fn duration(duration: std::time::Duration) -> String {
    let milliseconds = duration.as_millis();
    match milliseconds {
        0..1000 => format!("{milliseconds} ms"),
        _ if milliseconds.is_multiple_of(1000) => format!("{} s", milliseconds / 1000),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}
