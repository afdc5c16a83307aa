//! The contract of `--format json`, docs/verdict.schema.json. It is open for additions; here what
//! it does not name is an error.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use jsonschema::Validator;
use serde_json::Value;

/// The schema, closed.
#[derive(Debug)]
pub struct Contract(Validator);

impl Contract {
    /// Reads it.
    pub fn read() -> Result<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/verdict.schema.json");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        Self::closed(serde_json::from_str(&text)?)
    }

    fn closed(mut schema: Value) -> Result<Self> {
        close(&mut schema);
        let built = jsonschema::options()
            .should_validate_formats(true)
            .build(&schema);
        Ok(Self(built.map_err(|error| anyhow!("{error}"))?))
    }

    /// Everything in which a line breaks it.
    pub fn errors(&self, line: &Value) -> Vec<String> {
        let errors = self.0.iter_errors(line);
        errors
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect()
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn golden(name: &str) -> Result<Vec<Value>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tracer/tests/golden");
        let text = std::fs::read_to_string(folder.join(name))?;
        let lines = text.lines().map(serde_json::from_str);
        Ok(lines.collect::<Result<_, _>>()?)
    }

    #[test]
    fn golden_lines_keep_the_contract() -> Result<()> {
        let contract = Contract::read()?;
        for (name, count) in [("verdicts.jsonl", 3), ("notices.jsonl", 4)] {
            let lines = golden(name)?;
            assert_eq!(lines.len(), count, "{name}");
            for line in lines {
                assert_eq!(contract.errors(&line), Vec::<String>::new(), "{line}");
            }
        }
        Ok(())
    }

    #[test]
    fn what_breaks_it_is_an_error() -> Result<()> {
        let contract = Contract::read()?;
        let spoilt: [fn(&mut Value); 10] = [
            |v| v["kind"] = "notice".into(),
            |v| v["cause"] = "no-such-cause".into(),
            |v| v["confidence"] = "sure".into(),
            |v| v["status"] = "502".into(),
            |v| v["time"] = "2026-11-20 10:15:23".into(),
            |v| v["extra"] = 1.into(),
            |v| v["request"]["extra"] = 1.into(),
            |v| v["request"]["traceparent"] = "00-4bf9-00f0-01".into(),
            |v| v["attempts"][0]["cause"] = 1.into(),
            |v| drop(v.as_object_mut().map(|object| object.remove("masked"))),
        ];
        let right = golden("verdicts.jsonl")?.remove(0);
        for (index, spoil) in spoilt.iter().enumerate() {
            let mut line = right.clone();
            spoil(&mut line);
            assert!(!contract.errors(&line).is_empty(), "{index}: {line}");
        }
        Ok(())
    }
}
