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
    use serde_json::json;

    use super::*;

    #[test]
    fn a_member_that_is_not_named_is_an_error() -> Result<()> {
        let contract = Contract::closed(json!({
            "type": "object",
            "required": ["a"],
            "properties": {"a": {"$ref": "#/$defs/a"}},
            "$defs": {"a": {"type": "object", "required": [], "properties": {"b": {"type": "integer"}}}}
        }))?;
        assert_eq!(
            contract.errors(&json!({"a": {"b": 1}})),
            Vec::<String>::new()
        );
        for wrong in [
            json!({"a": {"b": 1, "c": 1}}),
            json!({"a": {}, "c": 1}),
            json!({}),
        ] {
            assert_eq!(contract.errors(&wrong).len(), 1, "{wrong}");
        }
        Ok(())
    }
}
