//! The catalogue as it is written, and the answers to lines.

use serde_json::Value;

use super::*;

fn shown(id: Option<&str>, format: Format) -> String {
    let mut out = Vec::new();
    run(&asked(id, None, format), 80, &mut out).expect("written");
    String::from_utf8(out).expect("text")
}

fn asked(what: Option<&str>, log: Option<PathBuf>, format: Format) -> CausesArgs {
    CausesArgs {
        what: what.map(str::to_owned),
        log,
        format,
    }
}

#[test]
fn the_list_holds_every_cause_within_80_columns() {
    let list = shown(None, Format::Text);
    for cause in catalogue::all() {
        assert!(list.contains(cause.id), "{}", cause.id);
    }
    assert!(
        list.lines().all(|line| line.chars().count() <= 80),
        "{list}"
    );
}

#[test]
fn one_cause_says_its_log_lines_and_fix_within_80_columns() {
    let entry = shown(Some("no-listener"), Format::Text);
    assert!(entry.contains("  connect() failed (111: Connection refused)"));
    assert!(entry.contains("\nFix\n  "));
    for cause in catalogue::all() {
        let entry = shown(Some(cause.id), Format::Text);
        let is_whole =
            |line: &str| cause.log_lines.contains(&line) || line == cause.by_hand.command;
        let is_wide = |line: &&str| line.chars().count() > 80 && !is_whole(line.trim());
        assert_eq!(entry.lines().find(is_wide), None, "{}", cause.id);
    }
}

#[test]
fn json_has_each_cause_in_full_on_a_line() {
    let lines = shown(None, Format::Json);
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), catalogue::all().len());
    let one = shown(Some("no-listener"), Format::Json);
    let one: Value = serde_json::from_str(&one).expect("JSON");
    let members: Vec<&str> = one
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    let mut expected = [
        "id",
        "title",
        "how_determined",
        "client_gets",
        "log_lines",
        "fix",
        "command",
        "command_shows",
    ];
    expected.sort_unstable();
    assert_eq!(members, expected);
    assert_eq!(one, lines[0]);
}

/// A name of a golden file, compared byte for byte; `BLESS=1` writes it.
fn golden(name: &str, is: &str) {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "golden", name]
        .iter()
        .collect();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, is).expect("the golden file is writable");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(is, expected, "{name}: BLESS=1 cargo test -p tracer");
}

const REFUSED: &str = "2026/11/20 10:15:23 [error] 1234#1234: *67 connect() failed (111: Connection refused) while \
    connecting to upstream, client: 192.168.1.1, server: shop, request: \"GET /a HTTP/1.1\", upstream: \
    \"http://127.0.0.1:3000/a\", host: \"shop.example\"";

fn answer(what: &str, format: Format) -> (String, bool) {
    let mut out = Vec::new();
    let known = match run(&asked(Some(what), None, format), 80, &mut out) {
        Ok(()) => true,
        Err(error) => {
            assert!(error.is::<NoCause>(), "{error:#}");
            false
        }
    };
    (String::from_utf8(out).expect("text"), known)
}

#[test]
fn a_line_has_its_causes_and_the_command_that_decides_each() {
    let (text, known) = answer(REFUSED, Format::Text);
    assert!(known);
    golden("causes-line.txt", &text);
    let (json, known) = answer(REFUSED, Format::Json);
    assert!(known);
    golden("causes-line.json", &json);
}

#[test]
fn a_line_without_a_cause_says_what_to_do() {
    for (line, says) in [
        ("hello world", "Paste the whole line"),
        (
            "2026/11/20 10:15:23 [error] 1#1: *5 FastCGI sent in stderr: \"PHP message: x\" while reading response header \
             from upstream",
            "what the backend wrote to its stderr",
        ),
        (
            "2026/11/20 10:15:23 [error] 1#1: *5 open() \"/srv/a\" failed (2: No such file or directory), client: 1.1.1.1",
            "can be proxy-storage",
        ),
        (
            "2026/11/20 10:15:23 [info] 1#1: *5 recv() failed (104: Connection reset by peer) while waiting for request, \
             client: 1.1.1.1, server: 0.0.0.0:80",
            "connection to the client",
        ),
        (
            "2026/11/20 10:15:23 [notice] 1#1: signal 1 (SIGHUP) received",
            "not about a failed attempt",
        ),
    ] {
        let (text, known) = answer(line, Format::Text);
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if says.contains("proxy-storage") {
            assert!(known, "{text}");
            continue;
        }
        assert!(!known && words.contains(says), "{line}: {text}");
        assert!(answer(line, Format::Json).0.contains("\"causes\":[]"));
    }
}

#[test]
fn what_others_wrote_into_a_line_is_shown_not_obeyed() {
    let line = "connect() to unix:/a\x1b[2J$(reboot) failed (2: No such file or directory) while connecting to upstream";
    let (text, known) = answer(line, Format::Text);
    assert!(known && !text.contains('\x1b'), "{text}");
    let commands: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("    "))
        .collect();
    assert!(
        commands
            .iter()
            .all(|line| !line.contains("reboot") && line.contains("PATH")),
        "{commands:?}"
    );
}

/// What each cause documents, filled in: nothing is left to be replaced by hand but what no line
/// has.
#[test]
fn commands_are_filled_in_from_the_line() {
    let (text, _) = answer(REFUSED, Format::Text);
    assert!(text.contains("\n    ss -ltnp 'sport = :3000'\n"), "{text}");
    let (text, _) = answer(
        "connect() to unix:/run/app.sock failed (111: Connection refused) while connecting to upstream",
        Format::Text,
    );
    assert!(text.contains("\n    ss -lxp src /run/app.sock\n"), "{text}");
    let (text, _) = answer(
        "b.example could not be resolved (3: Host not found)",
        Format::Text,
    );
    assert!(text.contains("\n    dig b.example @RESOLVER\n"), "{text}");
}

#[test]
fn a_wrapped_line_is_joined_and_several_are_counted() {
    let wrapped = REFUSED.replacen(" while connecting", "\nwhile connecting", 1);
    assert_eq!(
        answer(&wrapped, Format::Json),
        answer(REFUSED, Format::Json)
    );
    let (text, known) = answer(&format!("{REFUSED}\n{REFUSED}"), Format::Text);
    assert!(
        known && text.contains("2 lines of failed attempts"),
        "{text}"
    );
}

#[test]
fn a_whole_log_is_counted_by_possible_causes() {
    for (format, name) in [
        (Format::Text, "causes-log.txt"),
        (Format::Json, "causes-log.jsonl"),
    ] {
        let log: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "golden", "error.log"]
            .iter()
            .collect();
        let mut out = Vec::new();
        run(&asked(None, Some(log), format), 80, &mut out).expect("written");
        golden(name, &String::from_utf8(out).expect("text"));
    }
}
