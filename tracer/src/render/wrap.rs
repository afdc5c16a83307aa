//! Wrapping at a width with a hanging indent. A command is never broken: it must survive copy and
//! paste.

/// How commands in advice begin, after a colon or semicolon. A test keeps it complete.
const COMMANDS: &[&str] = &[
    "ausearch ",
    "bpftool ",
    "cat ",
    "chmod ",
    "chown ",
    "conntrack ",
    "coredumpctl ",
    "curl ",
    "df ",
    "dig ",
    "for p in ",
    "getent ",
    "grep ",
    "ip ",
    "ipvsadm ",
    "journalctl ",
    "ls ",
    "mkdir ",
    "namei ",
    "nft ",
    "nginx -",
    "nsenter ",
    "nstat ",
    "openssl ",
    "ps ",
    "resolvectl ",
    "setsebool ",
    "ss ",
    "sysctl ",
    "systemctl ",
    "tcpdump ",
    "tr ",
    "traceroute ",
    "tracer ",
];

/// Returns lines of `text` of at most `room` columns; a longer word has a line of its own.
pub(crate) fn lines(text: &str, room: usize) -> Vec<String> {
    filled(text.split(' '), room)
}

/// Returns lines of advice. A command takes a line of its own where it does not fit into the one
/// before.
pub(super) fn advice(text: &str, room: usize) -> Vec<String> {
    filled(pieces(text), room)
}

fn filled<'a>(words: impl Iterator<Item = &'a str>, room: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut length = 0;
    for word in words {
        let width = word.chars().count();
        if length > 0 && length + 1 + width > room {
            lines.push(std::mem::take(&mut line));
            length = 0;
        }
        if length > 0 {
            line.push(' ');
            length += 1;
        }
        line.push_str(word);
        length += width;
    }
    lines.push(line);
    lines
}

/// Words, and commands whole. One ends with the advice, or at a remark, two spaces after it.
fn pieces(mut text: &str) -> impl Iterator<Item = &str> {
    let mut is_after_colon = false;
    let mut is_over = false;
    std::iter::from_fn(move || {
        if is_over {
            return None;
        }
        let is_command = is_after_colon && COMMANDS.iter().any(|command| text.starts_with(command));
        let end = text.find(if is_command { "  " } else { " " });
        let (piece, rest) = end.map_or((text, None), |end| (&text[..end], Some(&text[end + 1..])));
        is_after_colon = piece.ends_with([':', ';', '?']);
        is_over = rest.is_none();
        text = rest.unwrap_or_default();
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::{COMMANDS, advice, lines};

    #[test]
    fn words_stay_whole() {
        assert_eq!(lines("one two three", 7), ["one two", "three"]);
        assert_eq!(lines("a-very-long-word b", 4), ["a-very-long-word", "b"]);
        assert_eq!(lines("", 4), [""]);
    }

    #[test]
    fn commands_stay_whole() {
        let text = "is the port open? see: ss -ltnp 'sport = :3000'; ip route get ::1  (Recv-Q waits, Send-Q limits)";
        let wrapped = advice(text, 30);
        assert_eq!(
            wrapped,
            [
                "is the port open? see:",
                "ss -ltnp 'sport = :3000'; ip route get ::1",
                "(Recv-Q waits, Send-Q limits)",
            ]
        );
        assert_eq!(advice("list the ip", 6), ["list", "the ip"]);
        assert_eq!(advice(text, 200), [text]);
    }

    /// What follows `see: ` in the causes' sources is a command, or filled in.
    #[test]
    fn every_command_of_the_causes_is_known() {
        let causes = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/causes");
        let mut seen = 0;
        for file in fs::read_dir(causes).unwrap() {
            let path = file.unwrap().path();
            if path.is_dir() {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            for lead in [
                "see: ",
                "confirm: ",
                "inside the container: ",
                "see its log: ",
            ] {
                for (at, _) in text.match_indices(lead) {
                    let command = &text[at + lead.len()..];
                    if command.starts_with(['{', '"', '\\']) {
                        continue;
                    }
                    seen += 1;
                    assert!(
                        COMMANDS.iter().any(|known| command.starts_with(known)),
                        "{}: {:.60}",
                        path.display(),
                        command
                    );
                }
            }
        }
        assert!(seen > 40, "{seen}");
    }
}
