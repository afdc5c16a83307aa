//! A line of nginx's error log as people have it: without its time, with a prefix of syslog, of a
//! container's or a collector's, as a JSON string, or cut at either end.
//!
//! [`log_line`](super::log_line) reads what nginx wrote itself; here nothing is sure, and nothing
//! depends on it but an answer to who asked. Any bytes give a result, in time linear to their
//! number (lines are cut before).

use std::{borrow::Cow, net::SocketAddr, path::PathBuf};

use serde_json::Value;

use super::log_line::{LEVELS, take};
use crate::event::{Doing, LogLine, Said, Upstream};

/// What such a line shows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Pasted {
    /// nginx's own date and time, in the host's zone.
    pub(crate) time: Option<String>,
    /// Of the worker, as nginx counts.
    pub(crate) pid: Option<u32>,
    /// The message up to `, client:`.
    pub(crate) message: String,
    /// Its kind; `None`: the line was cut before it.
    pub(crate) said: Option<Said>,
    /// The errno that it ends with.
    pub(crate) errno: Option<u32>,
    /// What nginx was doing.
    pub(crate) doing: Option<Doing>,
    /// The address that nginx tried.
    pub(crate) upstream: Option<Upstream>,
    /// The name that could not be resolved, or of the group of servers.
    pub(crate) name: Option<String>,
    /// The file that the message names first.
    pub(crate) file: Option<PathBuf>,
    /// Was there a head, so that it is a line of an error log for sure?
    pub(crate) has_head: bool,
}

impl Pasted {
    /// Reads a line without its line feed.
    pub(crate) fn read(line: &[u8]) -> Self {
        let text = String::from_utf8_lossy(line);
        let text = unwrapped(text.trim());
        let mut pasted = Self::default();
        let rest = match Head::find(&text) {
            Some(head) => {
                pasted.has_head = true;
                pasted.time = head.time.map(str::to_owned);
                pasted.pid = head.pid.parse().ok();
                head.rest
            }
            None => beginning(&text),
        };
        let mut parsed = LogLine::default();
        take(without_connection(rest), &mut parsed);
        if parsed.client.is_none() {
            // Cut within what follows the message.
            let end = parsed.message.find(", client: ");
            parsed.message.truncate(end.unwrap_or(parsed.message.len()));
        }
        let said = Said::of(&parsed.message);
        pasted.doing = Doing::of(&parsed.message);
        let is_known = !matches!(said, Said::Other | Said::MentionsUpstream | Said::Upstream);
        pasted.said = (pasted.has_head || is_known).then_some(said);
        if said != Said::Unresolved {
            pasted.errno = errno(&parsed.message);
        }
        pasted.upstream = upstream(&parsed, said);
        pasted.name = name(&parsed, said);
        pasted.file = quoted_file(&parsed.message, said);
        pasted.message = parsed.message;
        pasted
    }
}

/// Reads a line; returns how long its message is.
#[must_use]
pub fn message_of_pasted(line: &[u8]) -> usize {
    Pasted::read(line).message.len()
}

/// The text within JSON, if it is that; quotes without their backslashes.
fn unwrapped(text: &str) -> Cow<'_, str> {
    if text.starts_with(['{', '[', '"'])
        && let Ok(value) = serde_json::from_str::<Value>(text)
        && let Some(found) = within(&value)
    {
        return found.trim().to_owned().into();
    }
    if text.contains("\\\"") {
        return text.replace("\\\"", "\"").replace("\\/", "/").into();
    }
    text.into()
}

/// The first string that looks like a line. serde_json bounds the depth.
fn within(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => {
            (Head::find(text).is_some() || Said::find(text).is_some()).then_some(text)
        }
        Value::Array(values) => values.iter().find_map(within),
        Value::Object(members) => members.values().find_map(within),
        _ => None,
    }
}

/// `DATE TIME [LEVEL] PID#TID: `, wherever it is; the date may be absent.
struct Head<'a> {
    time: Option<&'a str>,
    pid: &'a str,
    rest: &'a str,
}

impl<'a> Head<'a> {
    fn find(text: &'a str) -> Option<Self> {
        text.match_indices('[').find_map(|(at, _)| {
            let after = &text[at + 1..];
            let level = LEVELS.iter().find(|level| {
                let rest = after.strip_prefix(**level);
                rest.is_some_and(|rest| rest.starts_with("] "))
            })?;
            let after = &after[level.len() + 2..];
            let (pid, after) = after.split_at(digits(after));
            let after = after.strip_prefix('#')?;
            let rest = after[digits(after)..].strip_prefix(": ")?;
            let time = text[..at].strip_suffix(' ').and_then(time_at_end);
            (!pid.is_empty()).then_some(Self { time, pid, rest })
        })
    }
}

fn digits(text: &str) -> usize {
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    text.bytes().take_while(|byte| is_digit(byte)).count()
}

/// `0000/00/00 00:00:00` at the end of a text.
fn time_at_end(text: &str) -> Option<&str> {
    const SHAPE: &[u8] = b"0000/00/00 00:00:00";
    let time = text.get(text.len().checked_sub(SHAPE.len())?..)?;
    let fits = time.bytes().zip(SHAPE).all(|(byte, shape)| match shape {
        b'0' => byte.is_ascii_digit(),
        _ => byte == *shape,
    });
    fits.then_some(time)
}

/// From where nginx's message begins, if the head is not there.
fn beginning(text: &str) -> &str {
    // A message may name an argument first, and what follows it may look like another's beginning.
    let own = without_connection(text);
    match Said::of(own) {
        Said::Other | Said::MentionsUpstream | Said::Upstream => {
            Said::find(text).map_or(own, |at| &text[at..])
        }
        _ => own,
    }
}

/// Without `*67890 `, also where something precedes it.
fn without_connection(text: &str) -> &str {
    let Some((_, rest)) = text.split_once('*') else {
        return text;
    };
    let number = digits(rest);
    let is_early = text.len() - rest.len() <= 80;
    match rest[number..].strip_prefix(' ') {
        Some(message) if number > 0 && is_early => message,
        _ => text,
    }
}

/// The last `(111: …)`: nginx writes it after its own words.
fn errno(message: &str) -> Option<u32> {
    message.rmatch_indices('(').find_map(|(at, _)| {
        let rest = &message[at + 1..];
        let number = digits(rest);
        // The line may be cut here.
        let after = &rest[number..];
        (after.starts_with(": ") || after == ":").then_some(())?;
        rest[..number].parse().ok()
    })
}

fn upstream(parsed: &LogLine, said: Said) -> Option<Upstream> {
    let in_field = || {
        let field = parsed.upstream.as_deref()?;
        let bare = field.split_once("://").map_or(field, |(_, rest)| rest);
        address(bare)
    };
    let in_message = || {
        let rest = parsed.message.strip_prefix("connect() to ")?;
        address(rest.split_once(" failed").map_or(rest, |(place, _)| place))
    };
    match said {
        Said::ConnectFailedAtOnce => in_message().or_else(in_field),
        _ => in_field(),
    }
}

/// `127.0.0.1:3000/path`, `unix:/path:/uri`.
fn address(text: &str) -> Option<Upstream> {
    if let Some(path) = text.strip_prefix("unix:") {
        let path = path.split(':').next().unwrap_or(path);
        return (!path.is_empty()).then(|| Upstream::Unix(path.to_owned()));
    }
    let end = text.find(['/', '?']).unwrap_or(text.len());
    let address = text[..end].parse::<SocketAddr>().ok()?;
    Some(Upstream::Inet(address))
}

fn name(parsed: &LogLine, said: Said) -> Option<String> {
    let name = match said {
        Said::Unresolved => parsed.message.split_once(" could not be resolved")?.0,
        Said::NoResolver => parsed.message.split_once("defined to resolve ")?.1,
        _ => {
            let field = parsed.upstream.as_deref()?;
            let bare = field.split_once("://").map_or(field, |(_, rest)| rest);
            bare.split(['/', ':', '?']).next()?
        }
    };
    let name = name.split([' ', ',']).next()?;
    (is_plain(name) && name.parse::<std::net::IpAddr>().is_err()).then(|| name.to_owned())
}

/// A host's or group's name, which a shell takes as it is.
fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !name.is_empty() && !name.starts_with('-') && name.len() <= 253 && name.chars().all(plain)
}

fn quoted_file(message: &str, said: Said) -> Option<PathBuf> {
    if !said.is_of_storage_or_folder() {
        return None;
    }
    let path = message.split('"').nth(1)?;
    path.starts_with('/').then(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests;
