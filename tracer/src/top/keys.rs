//! What a terminal sends, as keys. A terminal may send anything: unknown bytes are no key.

/// A key that does something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Quit,
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    Enter,
    Back,
    Switch,
}

/// A sequence that is longer is none of a key.
const LONGEST: usize = 16;

/// Bytes, until they make keys.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    waiting: Vec<u8>,
}

impl Keys {
    /// Returns the keys in what was read at once. An escape character with nothing after it is the
    /// key itself: terminals send a sequence in one piece.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Vec<Key> {
        self.waiting.extend_from_slice(bytes);
        let mut keys = Vec::new();
        let mut at = 0;
        while let Some(rest) = self.waiting.get(at..).filter(|rest| !rest.is_empty()) {
            let (key, length) = key(rest);
            keys.extend(key);
            at += length;
        }
        self.waiting.clear();
        keys
    }
}

/// The first key, and its bytes.
fn key(bytes: &[u8]) -> (Option<Key>, usize) {
    let key = match bytes {
        [0x1b, b'[' | b'O', rest @ ..] => return sequence(rest),
        // Ctrl-C, Ctrl-D and Ctrl-\ come as bytes.
        [b'q' | b'Q' | 0x03 | 0x04 | 0x1c, ..] => Some(Key::Quit),
        [b'k', ..] => Some(Key::Up),
        [b'j', ..] => Some(Key::Down),
        [b'g', ..] => Some(Key::First),
        [b'G', ..] => Some(Key::Last),
        [b' ', ..] => Some(Key::PageDown),
        [b'b', ..] => Some(Key::PageUp),
        [b'\r' | b'\n', ..] => Some(Key::Enter),
        [b'\t', ..] => Some(Key::Switch),
        [0x1b | 0x7f | 0x08, ..] => Some(Key::Back),
        _ => None,
    };
    (key, 1)
}

/// What follows `ESC [` or `ESC O`.
fn sequence(rest: &[u8]) -> (Option<Key>, usize) {
    let end = rest
        .iter()
        .take(LONGEST)
        .position(|byte| (0x40..=0x7e).contains(byte));
    let Some(end) = end else {
        return (None, 2 + rest.len().min(LONGEST));
    };
    let key = match &rest[..=end] {
        b"A" => Some(Key::Up),
        b"B" => Some(Key::Down),
        b"H" | b"1~" | b"7~" => Some(Key::First),
        b"F" | b"4~" | b"8~" => Some(Key::Last),
        b"5~" => Some(Key::PageUp),
        b"6~" => Some(Key::PageDown),
        b"Z" => Some(Key::Switch),
        _ => None,
    };
    (key, 2 + end + 1)
}
