//! The JSON against `docs/verdict.schema.json`, by the few keywords that the schema uses; any other is refused, so that
//! none is silently ignored.

use serde_json::Value;

use super::*;
use crate::render::json;

fn schema() -> Value {
    let path: PathBuf = [
        env!("CARGO_MANIFEST_DIR"),
        "..",
        "docs",
        "verdict.schema.json",
    ]
    .iter()
    .collect();
    serde_json::from_str(&fs::read_to_string(path).expect("the schema")).expect("JSON")
}

fn is_of_type(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "null" => value.is_null(),
        other => panic!("type {other}"),
    }
}

/// `2026-11-20T10:15:23.000123456Z`: of the times that the format allows, the one form that is printed.
fn is_time(text: &str) -> bool {
    let shape: String = text
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    shape == "0000-00-00T00:00:00.000000000Z"
}

/// What is wrong with the value, if anything is.
fn check(root: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("{at}: {what}: {value}"));
    for (keyword, rule) in schema.as_object().expect("a schema") {
        let ok = match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" => true,
            "$ref" => {
                let name = rule
                    .as_str()
                    .and_then(|r| r.strip_prefix("#/$defs/"))
                    .expect("a definition");
                check(root, &root["$defs"][name], value, at)?;
                true
            }
            "type" => match rule {
                Value::Array(types) => types
                    .iter()
                    .any(|t| is_of_type(value, t.as_str().expect("a type"))),
                one => is_of_type(value, one.as_str().expect("a type")),
            },
            "enum" => rule.as_array().expect("a list").contains(value),
            "oneOf" => {
                let fits = |s: &&Value| check(root, s, value, at).is_ok();
                rule.as_array().expect("a list").iter().filter(fits).count() == 1
            }
            "required" => {
                let has = |name: &Value| value.get(name.as_str().expect("a name")).is_some();
                !value.is_object() || rule.as_array().expect("a list").iter().all(has)
            }
            "properties" => {
                for (name, schema) in rule.as_object().expect("properties") {
                    if let Some(member) = value.get(name) {
                        check(root, schema, member, &format!("{at}.{name}"))?;
                    }
                }
                true
            }
            "additionalProperties" => value.as_object().is_none_or(|object| {
                object
                    .keys()
                    .all(|key| schema["properties"].get(key).is_some())
            }),
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    check(root, rule, item, &format!("{at}[]"))?;
                }
                true
            }
            "minLength" => value
                .as_str()
                .is_none_or(|s| s.chars().count() as u64 >= rule.as_u64().expect("a number")),
            "minimum" => value
                .as_u64()
                .is_none_or(|n| n >= rule.as_u64().expect("a number")),
            "maximum" => value
                .as_u64()
                .is_none_or(|n| n <= rule.as_u64().expect("a number")),
            "format" => rule == "date-time" && value.as_str().is_some_and(is_time),
            other => panic!("keyword {other}"),
        };
        if !ok {
            return wrong(keyword);
        }
    }
    Ok(())
}

fn object(verdict: &Verdict) -> Value {
    serde_json::from_str(&printed(|out| json::verdict(out, verdict, &CLOCK))).expect("JSON")
}

#[test]
fn verdicts_keep_to_the_schema() {
    let schema = schema();
    for verdict in [refused(), masked(), untried()] {
        assert_eq!(
            check(&schema, &schema, &object(&verdict), "verdict"),
            Ok(())
        );
    }
}

#[test]
fn the_schema_is_strict() {
    let schema = schema();
    let spoilt = |spoil: fn(&mut Value)| {
        let mut object = object(&refused());
        spoil(&mut object);
        check(&schema, &schema, &object, "verdict").is_err()
    };
    assert!(spoilt(|v| v["cause"] = "no-such-cause".into()));
    assert!(spoilt(|v| v["confidence"] = "sure".into()));
    assert!(spoilt(|v| v["status"] = "502".into()));
    assert!(spoilt(|v| v["time"] = "2026-11-20T10:15:23Z".into()));
    assert!(spoilt(|v| v["extra"] = 1.into()));
    assert!(spoilt(|v| v["attempts"][0]["cause"] = 1.into()));
    assert!(spoilt(|v| drop(
        v.as_object_mut().map(|o| o.remove("masked"))
    )));
}
