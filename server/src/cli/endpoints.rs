//! `countersign endpoints`: endpoint files from OpenAPI documents.

use std::{io, path::Path};

use serde_json::{Value, ser::PrettyFormatter};

use super::{CommandError, arguments::EndpointsCommand, print};
use crate::{
    authorization::endpoints::openapi,
    base::{redacted::json_error, watched_file::read_text},
};

pub(super) fn run(command: EndpointsCommand) -> Result<(), CommandError> {
    let EndpointsCommand::Import { document, base_path } = command;
    let endpoints = import(&document, base_path.as_deref()).map_err(|text| {
        CommandError::failed(format_args!("cannot import {}: {text}", document.display()))
    })?;
    Ok(print(sorted_json(&endpoints)?)?)
}

fn import(document: &Path, base: Option<&str>) -> Result<Value, String> {
    let text = read_text(document, MAX_DOCUMENT_BYTES).map_err(|error| error.to_string())?;
    let document = serde_json::from_str(&text).map_err(|error| {
        format!("{}; convert a document in YAML to JSON first", json_error(&error))
    })?;
    openapi::import(&document, base)
}

const MAX_DOCUMENT_BYTES: u64 = 64 << 20;

/// Returns JSON with an indent of 4 and sorted names, as the Inmanta server prints it.
pub(super) fn sorted_json(value: &Value) -> io::Result<String> {
    let mut text = Vec::new();
    let formatter = PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    serde::Serialize::serialize(&sorted(value), &mut serializer)?;
    String::from_utf8(text).map_err(io::Error::other)
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            members.into_iter().map(|(name, value)| (name.clone(), sorted(value))).collect()
        }
        Value::Array(elements) => elements.iter().map(sorted).collect(),
        other => other.clone(),
    }
}
