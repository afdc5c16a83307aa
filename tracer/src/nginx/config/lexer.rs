//! The words of a configuration file, as nginx cuts them (`ngx_conf_read_token`,
//! src/core/ngx_conf_file.c).

use super::lua;

/// Words of a directive: a `server_name` may have thousands.
const WORDS: usize = 1 << 16;

/// Has `look` see each directive's words, without their quotes, the byte that ends it and its line;
/// what is in a block follows it, and the block's end has no words. `None` once `look` gives it, or
/// a directive has too many. The text of a Lua block is passed over: it has a syntax of its own.
pub(super) fn directives<'a>(
    text: &'a [u8],
    mut look: impl FnMut(&[&'a [u8]], u8, u32) -> Option<()>,
) -> Option<()> {
    let mut words: Vec<&[u8]> = Vec::new();
    let (mut at, mut number, mut counted) = (0, 1, 0);
    let mut begins = 1;
    while let Some(&byte) = text.get(at) {
        let rest = &text[at..];
        if words.is_empty() {
            number += text[counted..at]
                .iter()
                .filter(|byte| **byte == b'\n')
                .count() as u32;
            (begins, counted) = (number, at);
        }
        match byte {
            b'#' => {
                // A backslash before its end means nothing.
                let end = rest.iter().position(|byte| *byte == b'\n');
                at += end.unwrap_or(rest.len());
            }
            b';' | b'{' | b'}' => {
                if !words.is_empty() {
                    look(&words, byte, begins)?;
                }
                at += 1;
                if byte == b'{' && words.first().is_some_and(|name| holds_lua(name)) {
                    at += lua::length(&text[at..]);
                }
                words.clear();
                if byte == b'}' {
                    look(&[], byte, begins)?;
                }
            }
            quote @ (b'"' | b'\'') => {
                let word = &rest[1..];
                let length = length(word, |byte| byte == quote);
                words.push(&word[..length]);
                at += length + 2;
            }
            byte if byte.is_ascii_whitespace() => at += 1,
            _ => {
                let length = length(rest, |byte| {
                    byte.is_ascii_whitespace() || b";{".contains(&byte)
                });
                words.push(&rest[..length.max(1)]);
                at += length.max(1);
            }
        }
        (words.len() <= WORDS).then_some(())?;
    }
    if words.is_empty() {
        return Some(());
    }
    look(&words, 0, begins)
}

/// Does Lua follow between the braces?
fn holds_lua(name: &[u8]) -> bool {
    name.ends_with(b"_by_lua_block")
}

/// A word as nginx takes it: a backslash takes a quote, a blank or itself its meaning.
pub(super) fn unescaped(word: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(word.len());
    let mut bytes = word.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        let meant = match (byte, bytes.peek()) {
            (b'\\', Some(&quote @ (b'"' | b'\'' | b'\\'))) => quote,
            (b'\\', Some(b't')) => b'\t',
            (b'\\', Some(b'r')) => b'\r',
            (b'\\', Some(b'n')) => b'\n',
            _ => {
                plain.push(byte);
                continue;
            }
        };
        bytes.next();
        plain.push(meant);
    }
    plain
}

/// How much comes before the byte that ends it; a backslash takes the next byte its meaning, `${`
/// is a variable's.
fn length(text: &[u8], is_end: impl Fn(u8) -> bool) -> usize {
    let mut before = 0;
    for (at, &byte) in text.iter().enumerate() {
        let is_plain = before == b'\\' || (before == b'$' && byte == b'{');
        if !is_plain && is_end(byte) {
            return at;
        }
        before = if before == b'\\' { 0 } else { byte };
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directive_of_too_many_words_is_doubt() {
        let count = |text: &str| {
            let mut count = 0;
            let read = directives(text.as_bytes(), |words, _, _| {
                count += words.len();
                Some(())
            });
            read.map(|()| count)
        };
        assert_eq!(count(&"a;".repeat(2 * WORDS)), Some(2 * WORDS));
        assert_eq!(count(&"a ".repeat(WORDS)), Some(WORDS));
        assert_eq!(count(&"a ".repeat(WORDS + 1)), None);
    }

    /// Each directive: its words, what ends it, its line.
    fn read(text: &str) -> Vec<(String, char, u32)> {
        let mut found = Vec::new();
        directives(text.as_bytes(), |words, end, line| {
            let words: Vec<_> = words
                .iter()
                .map(|word| String::from_utf8_lossy(&unescaped(word)).into_owned())
                .collect();
            found.push((words.join("|"), char::from(end), line));
            Some(())
        })
        .unwrap();
        found
    }

    #[test]
    fn words_are_cut_as_nginx_cuts_them() {
        let text = "a 'b \"c' \"d \\\"e\\\" \\\\\" f\\;g ${h}i#j # no\nk~*\\.php$ {";
        let words = "a|b \"c|d \"e\" \\|f\\;g|${h}i#j|k~*\\.php$";
        assert_eq!(read(text), [(words.to_owned(), '{', 1)]);
    }

    #[test]
    fn a_comment_ends_with_its_line_whatever_is_before() {
        let found = read("# C:\\\na; #${\nb;");
        assert_eq!(found, [("a".to_owned(), ';', 2), ("b".to_owned(), ';', 3)]);
    }

    #[test]
    fn lua_is_passed_over_whatever_is_in_it() {
        let text = "access_by_lua_block {
            -- don't }
            local s = \"}\" .. '}' .. [[ } ]] .. [=[ ]] } ]=] --[[ }
            ]] local t = { a = { } }
        }
        proxy_pass http://a;
        set_by_lua_block $x { return '{' }
        b;";
        let found = read(text);
        let names: Vec<(&str, char)> = found.iter().map(|(w, e, _)| (w.as_str(), *e)).collect();
        assert_eq!(
            names,
            [
                ("access_by_lua_block", '{'),
                ("", '}'),
                ("proxy_pass|http://a", ';'),
                ("set_by_lua_block|$x", '{'),
                ("", '}'),
                ("b", ';'),
            ]
        );
        assert_eq!(found[2].2, 6);
    }
}
