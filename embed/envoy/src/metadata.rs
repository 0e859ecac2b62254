//! Claims as dynamic metadata of Envoy.

use countersign_server::base::exact_json::{RawMembers, exact, exact_double};
use serde_json::Value;

use crate::envoy::EnvoyStream;

/// Sets those of the named claims that the token has. Envoy's interface has no value for objects
/// and for most lists: these are texts in JSON.
pub(crate) fn set_metadata(stream: &mut EnvoyStream<'_>, names: &[String], claims: &[u8]) {
    if names.is_empty() || claims.is_empty() {
        return;
    }
    let members: RawMembers<'_> = serde_json::from_slice(claims).unwrap_or_default();
    for name in names {
        if let Some(value) = members.get(name) {
            set_claim(stream, name.as_bytes(), &exact(value));
        }
    }
}

fn set_claim(stream: &mut EnvoyStream<'_>, name: &[u8], value: &Value) {
    match value {
        Value::Null => {}
        Value::Bool(value) => stream.set_bool(name, *value),
        Value::String(text) => stream.set_text(name, text.as_bytes()),
        Value::Number(number) => match exact_double(number) {
            Some(double) => stream.set_number(name, double),
            None => stream.set_text(name, number.to_string().as_bytes()),
        },
        Value::Array(elements) if elements.iter().all(Value::is_string) && !elements.is_empty() => {
            let texts = elements.iter().filter_map(Value::as_str);
            texts.for_each(|text| stream.add_text(name, text.as_bytes()));
        }
        Value::Array(_) | Value::Object(_) => stream.set_text(name, value.to_string().as_bytes()),
    }
}
