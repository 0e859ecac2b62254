//! Endpoint files: JSON in the form in which the Inmanta server prints its endpoint data.
//!
//! ```json
//! {"endpoints": {"GET /orders/<id>": {"client_types": ["api"], "auth_label": "order.read",
//!  "read_only": true, "environment_param": null}}}
//! ```
//!
//! Three further members are optional: `parameters` (place, type and default by name),
//! `any_environment` and `allow_env_scoped_tokens`.

use std::fmt;

use super::Endpoint;
use crate::base::{exact_json::RawMembers, redacted::json_error};

/// Error of an endpoint file.
#[derive(Debug, PartialEq, Eq)]
pub struct EndpointFileError {
    /// The endpoint that it is about, if it is about one.
    pub endpoint: Option<String>,
    /// The mistake.
    pub text: String,
}

impl fmt::Display for EndpointFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.endpoint {
            Some(endpoint) => write!(f, "endpoint {endpoint}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// Parses an endpoint file.
pub(super) fn parse(text: &str) -> Result<Vec<Endpoint>, EndpointFileError> {
    let whole = |text: String| EndpointFileError { endpoint: None, text };
    let members = |text: &str| -> Result<_, EndpointFileError> {
        serde_json::from_str::<RawMembers<'_>>(text)
            .map(|members| members.0.into_iter().map(|(name, raw)| (name, raw.get().to_owned())))
            .map(Iterator::collect::<Vec<_>>)
            .map_err(|error| whole(format!("not a JSON object: {}", json_error(&error))))
    };
    let mut endpoints = members(text)?;
    if let [(name, inner)] = endpoints.as_slice()
        && name == "endpoints"
    {
        endpoints = members(inner)?;
    }
    let mut seen: Vec<&str> = Vec::new();
    let mut parsed = Vec::new();
    for (id, properties) in &endpoints {
        let about = |text: String| EndpointFileError { endpoint: Some(id.clone()), text };
        if seen.contains(&id.as_str()) {
            return Err(about("the file has it twice".into()));
        }
        seen.push(id);
        parsed.push(Endpoint::parse(id, properties).map_err(about)?);
    }
    Ok(parsed)
}
