//! Validation against a JSON schema (draft 2020-12), for the keywords that ours uses.
//!
//! A keyword that is unknown here is an error, never passed over: so nothing in the schema goes
//! unchecked. The validators on crates.io bring 70 to 100 crates for the same.

use anyhow::{Context, Result, bail};
use regex_lite::Regex;
use serde_json::{Map, Value};

/// Everything in which `value` breaks the schema `root`, with its place.
pub fn errors(root: &Value, value: &Value) -> Result<Vec<String>> {
    let mut found = Vec::new();
    check(root, root, value, "$", &mut found)?;
    Ok(found)
}

const DATE_TIME: &str = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{9}Z$";

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
            "$schema" | "$defs" | "title" | "description" => {}
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
            "minimum" | "maximum" => {
                let (limit, number) = (rule.as_f64(), value.as_f64());
                let beyond = if keyword == "minimum" {
                    number < limit
                } else {
                    number > limit
                };
                if number.is_some() && beyond {
                    wrong(format!("is beyond the {keyword} {rule}"));
                }
            }
            "minLength" => {
                let length = value.as_str().map(|text| text.chars().count() as u64);
                if length.is_some() && length < rule.as_u64() {
                    wrong(format!("is shorter than {rule}"));
                }
            }
            "maxItems" => {
                let length = value.as_array().map(|items| items.len() as u64);
                if length > rule.as_u64() {
                    wrong(format!("has more than {rule} items"));
                }
            }
            "pattern" => {
                let pattern = Regex::new(rule.as_str().context("pattern is no string")?)?;
                if value.as_str().is_some_and(|text| !pattern.is_match(text)) {
                    wrong(format!("does not match {rule}"));
                }
            }
            "format" => {
                // RFC 3339 with nanoseconds, in UTC: narrower than the keyword asks, as the contract is.
                let date_time = Regex::new(DATE_TIME)?;
                if rule != "date-time" {
                    bail!("{place}: the schema's format {rule} is unknown here: add it");
                }
                if value.as_str().is_some_and(|text| !date_time.is_match(text)) {
                    wrong("is no time in UTC with nanoseconds".to_owned());
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
            "oneOf" => {
                let list = rule.as_array().context("oneOf is no list")?;
                let mut right = 0;
                for schema in list {
                    let mut inner = Vec::new();
                    check(root, schema, value, place, &mut inner)?;
                    right += usize::from(inner.is_empty());
                }
                if right != 1 {
                    wrong(format!("fits {right} of {} schemas", list.len()));
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
                "time": {"type": "string", "pattern": "^[0-9]{4}Z$"},
                "status": {"$ref": "#/$defs/status"},
                "list": {"type": "array", "maxItems": 2, "items": {"enum": ["a", null]}}
            },
            "additionalProperties": false,
            "$defs": {"status": {"oneOf": [{"type": "integer", "minimum": 500}, {"type": "null"}]}}
        });
        let right = json!({"time": "2026Z", "status": 502, "list": ["a", null]});
        assert_eq!(errors(&schema, &right)?, Vec::<String>::new());
        for wrong in [
            json!(1),
            json!({"time": "2026Z"}),
            json!({"time": "yesterday", "status": 502}),
            json!({"time": "2026Z", "status": 200}),
            json!({"time": "2026Z", "status": null, "list": ["a", "a", "a"]}),
            json!({"time": "2026Z", "status": null, "list": ["b"]}),
            json!({"time": "2026Z", "status": null, "more": 1}),
        ] {
            assert_eq!(errors(&schema, &wrong)?.len(), 1, "{wrong}");
        }
        assert!(errors(&json!({"unheardOf": 1}), &right).is_err());
        Ok(())
    }
}
