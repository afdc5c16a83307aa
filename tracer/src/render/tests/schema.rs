//! The JSON against `docs/verdict.schema.json`. That is open for additions; here what it does not
//! name is an error.

use jsonschema::Validator;
use serde_json::{Value, json};

use super::*;
use crate::{
    event::{Coverage, Notice, Strain, coverage::Change},
    render::json,
};

fn strict() -> Validator {
    let path: PathBuf = [
        env!("CARGO_MANIFEST_DIR"),
        "..",
        "docs",
        "verdict.schema.json",
    ]
    .iter()
    .collect();
    let text = fs::read_to_string(path).expect("the schema");
    let mut schema = serde_json::from_str(&text).expect("JSON");
    close(&mut schema);
    jsonschema::options()
        .should_validate_formats(true)
        .build(&schema)
        .expect("a schema")
}

/// Allows no member that is not named.
fn close(schema: &mut Value) {
    if let Some(object) = schema.as_object_mut()
        && object.get("properties").is_some_and(Value::is_object)
        && object.contains_key("required")
    {
        object.insert("additionalProperties".to_owned(), false.into());
    }
    match schema {
        Value::Object(members) => members.values_mut().for_each(close),
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

fn parsed(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> Value {
    serde_json::from_str(&printed(write)).expect("JSON")
}

fn keeps_to(schema: &Validator, line: &Value) {
    if let Err(error) = schema.validate(line) {
        panic!("{error} in {line}");
    }
}

fn object(verdict: &Verdict) -> Value {
    parsed(|out| json::verdict(out, verdict, "web1", &CLOCK))
}

#[test]
fn verdicts_keep_to_the_schema() {
    let schema = strict();
    for verdict in [refused(), masked(), untried()] {
        keeps_to(&schema, &object(&verdict));
    }
    let unnamed = parsed(|out| json::verdict(out, &refused(), "", &CLOCK));
    assert_eq!(unnamed["host"], Value::Null);
    keeps_to(&schema, &unnamed);
}

#[test]
fn notices_keep_to_the_schema() {
    let schema = strict();
    let notice = |strain, pid, is_over| Notice {
        at: AT,
        pid,
        strain,
        is_over,
    };
    let skipped = Strain::LogSkipped { bytes: 7 };
    let open = Strain::Descriptors { open: 9, limit: 10 };
    for (notice, pid) in [
        (notice(open, 812, false), json!(812)),
        (notice(skipped, 0, true), Value::Null),
    ] {
        let line = parsed(|out| json::notice(out, &notice, "web1", &CLOCK));
        keeps_to(&schema, &line);
        assert_eq!(
            (&line["pid"], &line["over"]),
            (&pid, &notice.is_over.into())
        );
    }
    let blind = Coverage {
        at: AT,
        change: Change::Blind {
            pid: 812,
            program: "nginx/1.22.1".to_owned(),
            why: "x".to_owned(),
            is_foreign: false,
        },
    };
    let line = parsed(|out| json::coverage(out, &blind, "web1", &CLOCK));
    keeps_to(&schema, &line);
    assert_eq!(line["event"], "blind");
    let line = parsed(|out| json::lost(out, (AT, 5), "web1", &CLOCK));
    keeps_to(&schema, &line);
    assert_eq!(line["event"], "lost");
    // Another line says it.
    let some = Coverage {
        at: AT,
        change: Change::Something { since: AT },
    };
    assert_eq!(
        printed(|out| json::coverage(out, &some, "web1", &CLOCK)),
        ""
    );
}

#[test]
fn the_closed_schema_is_strict() {
    let schema = strict();
    let spoilt = |spoil: fn(&mut Value)| {
        let mut object = object(&refused());
        spoil(&mut object);
        schema.validate(&object).is_err()
    };
    assert!(spoilt(|v| v["kind"] = "notice".into()));
    assert!(spoilt(|v| v["cause"] = "no-such-cause".into()));
    assert!(spoilt(|v| v["confidence"] = "sure".into()));
    assert!(spoilt(|v| v["status"] = "502".into()));
    assert!(spoilt(|v| v["time"] = "2026-11-20 10:15:23".into()));
    assert!(spoilt(|v| v["extra"] = 1.into()));
    assert!(spoilt(|v| v["request"]["extra"] = 1.into()));
    assert!(spoilt(
        |v| v["request"]["traceparent"] = "00-4bf9-00f0-01".into()
    ));
    assert!(spoilt(|v| v["attempts"][0]["cause"] = 1.into()));
    assert!(spoilt(|v| drop(
        v.as_object_mut().map(|o| o.remove("masked"))
    )));
}
