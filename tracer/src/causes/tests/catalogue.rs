//! The catalogue against the documents that are made of it. `BLESS=1 cargo test -p tracer` writes
//! them again.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::PathBuf};

use super::super::catalogue::{Place, Shown, all, behind};
use crate::nginx::pasted::Pasted;

fn document(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "docs", name]
        .iter()
        .collect()
}

/// `docs/causes.md`.
fn markdown() -> String {
    let mut page = String::from(
        "# Causes\n\nEvery verdict names one of these (`tracer causes ID` prints one). A request's cause is its last \
         attempt's.\n\n<!-- Made of tracer/src/causes by `BLESS=1 cargo test -p tracer`; do not edit. -->\n",
    );
    for cause in all() {
        let mut line = |text: String| writeln!(page, "{text}").expect("a String takes all");
        line(format!(
            "\n## `{}`\n\n{}.\n",
            cause.id,
            capital(cause.title)
        ));
        if !cause.is_implemented() {
            line("*No verdict names it yet: such requests are `unexplained`.*\n".to_owned());
        }
        line(format!("- **Distinguished by:** {}", cause.split));
        line(format!("- **The client gets:** {}", cause.client_gets));
        if !cause.log_lines.is_empty() {
            line("- **nginx logs** (a line can have other causes too):".to_owned());
        }
        for logged in cause.log_lines {
            line(format!("  - `{logged}`"));
        }
        line(format!(
            "- **By hand:** `{}`: if {}",
            cause.by_hand.command, cause.by_hand.shows
        ));
        line(format!("- **Fix:** {}", cause.fix));
    }
    page
}

fn capital(sentence: &str) -> String {
    let mut rest = sentence.chars();
    rest.next()
        .map(|first| first.to_uppercase().chain(rest).collect())
        .unwrap_or_default()
}

#[test]
fn ids_are_unique_and_in_kebab_case() {
    let ids: BTreeSet<&str> = all().iter().map(|cause| cause.id).collect();
    assert_eq!(ids.len(), all().len());
    assert!(
        ids.iter()
            .all(|id| id.chars().all(|c| c.is_ascii_lowercase() || c == '-'))
    );
}

#[test]
fn the_page_of_causes_is_that_of_the_catalogue() {
    let path = document("causes.md");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, markdown()).expect("docs/causes.md is writable");
    }
    let page = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        page == markdown(),
        "docs/causes.md is stale: BLESS=1 cargo test -p tracer"
    );
}

#[test]
fn the_documents_say_how_many_causes_there_are() {
    let count = format!("{} causes", all().len());
    for name in ["../README.md", "reference.md"] {
        let text = fs::read_to_string(document(name)).expect("the document is there");
        assert!(text.contains(&count), "{name} does not say {count}");
    }
}

#[test]
fn the_schema_knows_the_same_causes() {
    let schema = fs::read_to_string(document("verdict.schema.json")).expect("the schema");
    let schema: serde_json::Value = serde_json::from_str(&schema).expect("JSON");
    let known = schema["$defs"]["cause"]["enum"].as_array().expect("a list");
    let known: BTreeSet<&str> = known.iter().filter_map(serde_json::Value::as_str).collect();
    assert_eq!(known, all().iter().map(|cause| cause.id).collect());
}

/// A line that a cause documents is one that it can be behind.
#[test]
fn each_cause_is_among_those_of_its_own_lines() {
    for cause in all() {
        for line in cause.log_lines {
            let shown = shown(&Pasted::read(line.as_bytes()));
            let causes: Vec<&str> = behind(&shown).iter().map(|cause| cause.id).collect();
            assert!(
                causes.contains(&cause.id),
                "{}: {line}: {causes:?}",
                cause.id
            );
        }
        let without_a_line = ["passed-through", "unexplained"];
        assert_eq!(
            cause.logged.is_empty(),
            without_a_line.contains(&cause.id),
            "{}",
            cause.id
        );
    }
}

fn shown(line: &Pasted) -> Shown {
    Shown {
        said: line.said,
        errno: line.errno,
        doing: line.doing,
        place: line.upstream.as_ref().map(Place::of),
    }
}
