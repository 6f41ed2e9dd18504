//! YAML files as JSON values, which is what Envoy itself makes of them.

use crate::Result;
use anyhow::{Context, bail};
use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::Value;
use std::path::Path;

/// Reads every document of a file.
///
/// # Errors
///
/// If it is no YAML, or holds what JSON cannot say (tags, keys that are no text).
pub fn read(path: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let documents = Yaml::load_from_str(&text).with_context(|| path.display().to_string())?;
    documents.iter().map(json).collect()
}

fn json(yaml: &Yaml<'_>) -> Result<Value> {
    Ok(match yaml {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(value)) => Value::from(*value),
        Yaml::Value(Scalar::Integer(value)) => Value::from(*value),
        Yaml::Value(Scalar::FloatingPoint(value)) => Value::from(value.into_inner()),
        Yaml::Value(Scalar::String(value)) => Value::from(value.as_ref()),
        Yaml::Sequence(items) => Value::Array(items.iter().map(json).collect::<Result<_>>()?),
        Yaml::Mapping(fields) => {
            let field = |(name, value): (&Yaml<'_>, _)| {
                Ok((name.as_str().context("a key that is text")?.to_owned(), json(value)?))
            };
            Value::Object(fields.iter().map(field).collect::<Result<_>>()?)
        }
        other => bail!("{other:?} has no meaning in JSON"),
    })
}
