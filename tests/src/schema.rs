//! Validation against a JSON schema (draft 2020-12), for the keywords that ours uses.
//!
//! A keyword that is unknown here is an error, never passed over: so nothing in the schema goes
//! unchecked. The validators on crates.io bring 70 to 100 crates for the same.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

/// Everything in which `value` breaks the schema `root`, with its place.
pub fn errors(root: &Value, value: &Value) -> Result<Vec<String>> {
    let mut found = Vec::new();
    check(root, root, value, "$", &mut found)?;
    Ok(found)
}

fn check(
    root: &Value,
    schema: &Value,
    value: &Value,
    place: &str,
    found: &mut Vec<String>,
) -> Result<()> {
    let rules = match schema {
        Value::Bool(true) => return Ok(()),
        Value::Bool(false) => {
            found.push(format!("{place} is not allowed"));
            return Ok(());
        }
        _ => schema.as_object().context("a schema is no object")?,
    };
    for (keyword, rule) in rules {
        let mut wrong = |text: String| found.push(format!("{place}: {text}: {value}"));
        match keyword.as_str() {
            "$schema" | "$id" | "$defs" | "$comment" | "title" | "description" | "examples" => {}
            "type" => {
                let kinds = rule
                    .as_array()
                    .map_or(std::slice::from_ref(rule), Vec::as_slice);
                if !kinds.iter().any(|kind| is_kind(value, kind)) {
                    wrong(format!("is no {rule}"));
                }
            }
            "enum" => {
                let allowed = rule.as_array().context("enum is no list")?;
                if !allowed.contains(value) {
                    wrong(format!("is none of {rule}"));
                }
            }
            "const" if rule != value => wrong(format!("is not {rule}")),
            "const" => {}
            "minimum" if value.as_f64() < rule.as_f64() => wrong(format!("is below {rule}")),
            "maximum" if value.is_number() && value.as_f64() > rule.as_f64() => {
                wrong(format!("is above {rule}"));
            }
            "minimum" | "maximum" => {}
            "minLength" => {
                let length = value.as_str().map(|text| text.chars().count() as u64);
                if length < rule.as_u64() && length.is_some() {
                    wrong(format!("is shorter than {rule}"));
                }
            }
            "minItems" => {
                let length = value.as_array().map(|items| items.len() as u64);
                if length < rule.as_u64() && length.is_some() {
                    wrong(format!("has fewer than {rule}"));
                }
            }
            "format" if rule == "date-time" => {
                if value.as_str().is_some_and(|text| !is_date_time(text)) {
                    wrong("is no RFC 3339 time".into());
                }
            }
            "required" => {
                let names = rule.as_array().context("required is no list")?;
                for name in names.iter().filter_map(Value::as_str) {
                    if value.is_object() && value.get(name).is_none() {
                        wrong(format!("lacks {name}"));
                    }
                }
            }
            "properties" => {
                let (rules, object) = (object(rule)?, value.as_object());
                for (name, member) in object.into_iter().flatten() {
                    if let Some(rule) = rules.get(name) {
                        check(root, rule, member, &format!("{place}.{name}"), found)?;
                    }
                }
            }
            "additionalProperties" => {
                let known = rules.get("properties").map(object).transpose()?;
                for (name, member) in value.as_object().into_iter().flatten() {
                    if !known.is_some_and(|known| known.contains_key(name)) {
                        check(root, rule, member, &format!("{place}.{name}"), found)?;
                    }
                }
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(root, rule, item, &format!("{place}[{index}]"), found)?;
                }
            }
            "$ref" => {
                let target = rule.as_str().and_then(|path| path.strip_prefix('#'));
                let target = target.and_then(|path| root.pointer(path));
                let target = target.with_context(|| format!("{rule} leads nowhere"))?;
                check(root, target, value, place, found)?;
            }
            "allOf" | "anyOf" | "oneOf" => {
                let list = rule.as_array().context("not a list of schemas")?;
                let mut right = 0;
                for schema in list {
                    let mut inner = Vec::new();
                    check(root, schema, value, place, &mut inner)?;
                    right += usize::from(inner.is_empty());
                }
                let fits = match keyword.as_str() {
                    "allOf" => right == list.len(),
                    "anyOf" => right > 0,
                    _ => right == 1,
                };
                if !fits {
                    wrong(format!("fits {right} of {} in {keyword}", list.len()));
                }
            }
            other => bail!("{place}: the schema's keyword {other} is unknown here: add it"),
        }
    }
    Ok(())
}

fn object(rule: &Value) -> Result<&Map<String, Value>> {
    rule.as_object().context("properties is no object")
}

fn is_kind(value: &Value, kind: &Value) -> bool {
    match kind.as_str() {
        Some("null") => value.is_null(),
        Some("boolean") => value.is_boolean(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        _ => false,
    }
}

/// `2026-11-20T10:15:23.000123456Z`, the fraction optional, the offset Z or `+01:00`.
fn is_date_time(text: &str) -> bool {
    let shape: String = text
        .chars()
        .map(|letter| if letter.is_ascii_digit() { '0' } else { letter })
        .collect();
    let Some(rest) = shape.strip_prefix("0000-00-00T00:00:00") else {
        return false;
    };
    let rest = match rest.strip_prefix('.') {
        Some(fraction) if fraction.starts_with('0') => fraction.trim_start_matches('0'),
        Some(_) => return false,
        None => rest,
    };
    matches!(rest, "Z" | "+00:00" | "-00:00")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::errors;

    #[test]
    fn what_breaks_the_schema_is_found() -> anyhow::Result<()> {
        let schema = json!({
            "type": "object",
            "required": ["time", "status"],
            "properties": {
                "time": {"type": "string", "format": "date-time"},
                "status": {"$ref": "#/$defs/status"},
                "list": {"type": "array", "minItems": 1, "items": {"enum": ["a", null]}}
            },
            "additionalProperties": false,
            "$defs": {"status": {"anyOf": [{"type": "integer", "minimum": 500}, {"type": "null"}]}}
        });
        let right =
            json!({"time": "2026-11-20T10:15:23.000123456Z", "status": 502, "list": ["a", null]});
        assert_eq!(errors(&schema, &right)?, Vec::<String>::new());
        for wrong in [
            json!(1),
            json!({"time": "2026-11-20T10:15:23Z"}),
            json!({"time": "yesterday", "status": 502}),
            json!({"time": "2026-11-20T10:15:23Z", "status": 200}),
            json!({"time": "2026-11-20T10:15:23Z", "status": null, "list": []}),
            json!({"time": "2026-11-20T10:15:23Z", "status": null, "list": ["b"]}),
            json!({"time": "2026-11-20T10:15:23Z", "status": null, "more": 1}),
        ] {
            assert_eq!(errors(&schema, &wrong)?.len(), 1, "{wrong}");
        }
        assert!(errors(&json!({"unheardOf": 1}), &right).is_err());
        Ok(())
    }
}
