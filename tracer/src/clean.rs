//! Strings of others made harmless: a terminal must not obey them, a reader must not be misled by
//! them.

use std::fmt::Write as _;

/// No string of others is shown longer (characters).
const LONGEST: usize = 512;
/// Nor is a line that is made of several.
const LONGEST_LINE: usize = 4096;

/// A character that a terminal obeys or that hides or reorders others: controls, directions, zero
/// widths, tags; and what XML does not take.
fn is_harmful(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}' | '\u{e0000}'..='\u{e0fff}')
}

/// Most strings are: nothing in them need be looked at one by one.
fn is_plain(string: &str) -> bool {
    // Without an early end: so the compiler makes it some bytes at a time.
    let bytes = string.bytes();
    bytes.fold(true, |plain, byte| plain & matches!(byte, b' '..=b'~'))
}

/// For a terminal: harmful characters as `\x1b` or `\u{202e}`, cut with an ellipsis.
pub(crate) fn text(string: &str) -> String {
    cleaned(string, LONGEST)
}

/// A whole line, its own words and those of others alike.
pub(crate) fn line(string: &str) -> String {
    cleaned(string, LONGEST_LINE)
}

fn cleaned(string: &str, longest: usize) -> String {
    if is_plain(string) && string.len() <= longest {
        return string.to_owned();
    }
    let mut clean = String::with_capacity(string.len().min(longest));
    for (count, c) in string.chars().enumerate() {
        if count == longest {
            clean.push('…');
            break;
        }
        if is_harmful(c) {
            let code = u32::from(c);
            // Writing to a String never fails.
            let _ = if code < 0x100 {
                write!(clean, "\\x{code:02x}")
            } else {
                write!(clean, "\\u{{{code:x}}}")
            };
        } else {
            clean.push(c);
        }
    }
    clean
}

/// For JSON: cut alike; the characters stay, their escaping is [`escaped`]'s.
pub(crate) fn cut(string: &str) -> String {
    match string.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &string[..end]),
        None => string.to_owned(),
    }
}

/// JSON text with harmful characters as `\uXXXX`. Outside its strings JSON holds none but a final
/// line feed.
pub(crate) fn escaped(json: String) -> String {
    if is_plain(&json) {
        return json;
    }
    let mut clean = String::with_capacity(json.len());
    for c in json.chars() {
        if is_harmful(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(clean, "\\u{unit:04x}");
            }
        } else {
            clean.push(c);
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_and_directions_are_shown_not_obeyed() {
        assert_eq!(
            text("a\x1b[2Jb\u{202e}c\r\n\u{9b}"),
            "a\\x1b[2Jb\\u{202e}c\\x0d\\x0a\\x9b"
        );
        assert_eq!(text("späße/日本"), "späße/日本");
    }

    #[test]
    fn long_strings_are_cut() {
        assert_eq!(text(&"x".repeat(4000)).chars().count(), LONGEST + 1);
        assert_eq!(cut(&"ß".repeat(4000)).chars().count(), LONGEST + 1);
        assert_eq!(cut("short"), "short");
    }

    #[test]
    fn json_keeps_the_characters_in_escapes() {
        let json = escaped(serde_json::to_string("\u{9b}\u{202e}\u{e0041}\x1b").expect("a string"));
        assert!(json.is_ascii());
        let back: String = serde_json::from_str(&json).expect("valid JSON");
        assert_eq!(back, "\u{9b}\u{202e}\u{e0041}\x1b");
    }
}
