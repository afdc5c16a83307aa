//! The end of a Lua block (`ngx_http_lua_conf_lua_block_parse` of OpenResty): braces in strings,
//! long brackets and comments do not count.

/// Bytes before the brace that closes the block; all, where none does.
pub(super) fn length(text: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 1_usize);
    while let Some(&byte) = text.get(at) {
        let rest = &text[at..];
        at += match byte {
            b'{' => {
                depth += 1;
                1
            }
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return at;
                }
                1
            }
            b'-' if rest.starts_with(b"--") => {
                2 + long(&rest[2..]).unwrap_or_else(|| before(&rest[2..], b'\n'))
            }
            b'[' => long(rest).unwrap_or(1),
            quote @ (b'"' | b'\'') => string(rest, quote),
            _ => 1,
        };
    }
    text.len()
}

/// The length of `[[…]]`, `[=[…]=]` and so on; `None` if none begins here.
fn long(text: &[u8]) -> Option<usize> {
    let level = text.strip_prefix(b"[")?.iter();
    let level = level.take_while(|byte| **byte == b'=').count();
    let inside = text.get(level + 1..)?.strip_prefix(b"[")?;
    let ends = |window: &[u8]| {
        window.first() == Some(&b']')
            && window.last() == Some(&b']')
            && window[1..=level].iter().all(|byte| *byte == b'=')
    };
    let end = inside.windows(level + 2).position(ends);
    Some(end.map_or(text.len(), |end| 2 * (level + 2) + end))
}

/// The length of a string with its quotes.
fn string(text: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'\\' => at += 2,
            // It ends with its line, as Lua has it.
            b'\n' => return at,
            _ if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

fn before(text: &[u8], end: u8) -> usize {
    let found = text.iter().position(|byte| *byte == end);
    found.unwrap_or(text.len())
}
