//! `countersign endpoints`: endpoint files from OpenAPI documents.

use std::{
    io::{self, Write as _},
    path::Path,
};

use serde_json::{Value, ser::PrettyFormatter};

use super::{CommandError, arguments::EndpointsCommand};
use crate::{
    authorization::endpoints::openapi,
    base::{redacted::json_error, watched_file::read_text},
};

pub(super) fn run(command: EndpointsCommand) -> Result<(), CommandError> {
    let EndpointsCommand::Import { document, base_path } = command;
    let endpoints = import(&document, base_path.as_deref()).map_err(|text| {
        CommandError::failed(format_args!("cannot import {}: {text}", document.display()))
    })?;
    Ok(print_sorted(&endpoints)?)
}

fn import(document: &Path, base: Option<&str>) -> Result<Value, String> {
    let text = read_text(document, MAX_DOCUMENT_BYTES).map_err(|error| error.to_string())?;
    let document = serde_json::from_str(&text).map_err(|error| {
        format!("{}; convert a document in YAML to JSON first", json_error(&error))
    })?;
    openapi::import(&document, base)
}

const MAX_DOCUMENT_BYTES: u64 = 64 << 20;

/// Prints JSON with an indent of 4 and sorted names, as the Inmanta server does.
pub(super) fn print_sorted(value: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let formatter = PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    serde::Serialize::serialize(&sorted(value), &mut serializer)?;
    out.write_all(b"\n")
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
