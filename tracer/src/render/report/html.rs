//! HTML text: whatever others wrote is escaped here, and only here.

use crate::render::clean;

/// Text of others, harmless: cleaned as for a terminal, then escaped.
pub(super) fn text(string: &str) -> String {
    escaped(&clean::text(string))
}

fn escaped(string: &str) -> String {
    let mut out = String::with_capacity(string.len() + 8);
    for c in string.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

/// Rows of names and values; both are HTML already.
pub(super) fn facts(rows: &[(String, String)]) -> String {
    let rows: String = rows
        .iter()
        .map(|(name, value)| format!("<dt>{name}</dt><dd>{value}</dd>\n"))
        .collect();
    format!("<dl class=\"facts\">\n{rows}</dl>\n")
}

/// Items that are HTML already.
pub(super) fn list(items: &[String]) -> String {
    let items: String = items
        .iter()
        .map(|item| format!("<li>{item}</li>\n"))
        .collect();
    format!("<ul>\n{items}</ul>\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_others_is_markup() {
        assert_eq!(
            text("<script>alert('1')</script>&\"\u{1b}[2J\u{202e}"),
            "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;&quot;\\x1b[2J\\u{202e}"
        );
        assert!(text(&"<".repeat(65_536)).len() < 4096);
    }
}
