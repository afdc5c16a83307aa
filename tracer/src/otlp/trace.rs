//! Which trace a failed request belongs to: the caller's, by its `traceparent`, or a new one.

use crate::process;

/// The flag `sampled` of <https://www.w3.org/TR/trace-context-2/#trace-flags>.
const SAMPLED: u32 = 1;
/// It is known that the parent is another process's
/// (`SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK`, `SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK`).
const REMOTE: u32 = 0x300;

/// Where in a trace a request is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) trace: String,
    /// The caller's span.
    pub(super) parent: Option<String>,
    pub(super) flags: u32,
}

impl Place {
    /// By the client's `traceparent`, if it is well-formed.
    pub(super) fn of(traceparent: Option<&str>) -> Self {
        traceparent.and_then(Self::joined).unwrap_or_else(|| Self {
            trace: hex(&process::random::<16>()),
            parent: None,
            flags: SAMPLED,
        })
    }

    /// A capture's author chose its text: it is looked at again.
    fn joined(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('-').collect();
        let [version, trace, parent, flags] = parts[..] else {
            return None;
        };
        let is = |part: &str, len: usize, none: char| {
            let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            part.len() == len
                && part.bytes().all(is_digit)
                && part.chars().any(|digit| digit != none)
        };
        let is_whole =
            is(version, 2, 'f') && is(trace, 32, '0') && is(parent, 16, '0') && is(flags, 2, '-');
        is_whole.then(|| Self {
            trace: trace.to_owned(),
            parent: Some(parent.to_owned()),
            flags: u32::from_str_radix(flags, 16).unwrap_or(0) | REMOTE,
        })
    }
}

/// A new span's id.
pub(super) fn span() -> String {
    hex(&process::random::<8>())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_well_formed_traceparent_is_joined() {
        let expected = Place {
            trace: "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
            parent: Some("00f067aa0ba902b7".to_owned()),
            flags: 0x301,
        };
        assert_eq!(Place::of(Some(TRACE)), expected);
    }

    #[test]
    fn any_other_begins_a_trace_of_its_own() {
        let wrong = [
            String::new(),
            TRACE.to_uppercase(),
            TRACE.replacen("00", "ff", 1),
            TRACE.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            TRACE.replace("00f067aa0ba902b7", &"0".repeat(16)),
            format!("{TRACE}-x"),
            TRACE.replace("01", "0g"),
        ];
        for text in wrong.iter().map(|text| Some(text.as_str())).chain([None]) {
            let place = Place::of(text);
            assert_eq!((place.parent, place.flags), (None, SAMPLED), "{text:?}");
            assert_eq!(place.trace.len(), 32);
            assert_ne!(place.trace, Place::of(text).trace);
        }
    }
}
