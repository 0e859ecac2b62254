//! The query of a call: parameters that its operation has, each at most once.

use serde_json::Value;

use super::{
    error::AdminError,
    operation::AdminOperation,
    page::{AFTER, LIMIT},
    schema::ValueSchema,
};
use crate::base::redacted::shown;

/// The parameters of a query, in their order.
#[derive(Debug, Default)]
pub(super) struct QueryValues(Vec<(String, String)>);

impl QueryValues {
    /// Reads the query of an [`AdminOperation`]. [`LIMIT`] and [`AFTER`] are checked by the page.
    ///
    /// # Errors
    /// It is malformed, or a parameter is unknown, repeated, or has a wrong value.
    pub(super) fn read(operation: &AdminOperation, query: &str) -> Result<Self, AdminError> {
        let values: Vec<(String, String)> = serde_urlencoded::from_str(query)
            .map_err(|_| AdminError::invalid("the query is malformed"))?;
        for (index, (name, text)) in values.iter().enumerate() {
            if values.iter().take(index).any(|(other, _)| other == name) {
                return Err(AdminError::parameter(&shown(name), "the parameter is there twice"));
            }
            let is_of_page = operation.is_paged() && matches!(&**name, LIMIT | AFTER);
            let schema = operation.query.iter().find(|one| one.name == name).map(|one| one.value);
            let mistake = match schema {
                None if is_of_page => None,
                None => Some("this call has no such parameter".to_owned()),
                Some(schema) => mistake(schema, text),
            };
            if let Some(mistake) = mistake {
                return Err(AdminError::parameter(&shown(name), &mistake));
            }
        }
        Ok(Self(values))
    }

    /// Returns a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.iter().find_map(|(of, text)| (of == name).then_some(text))
    }

    /// Returns all parameters with their values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, text)| (&**name, &**text))
    }
}

fn mistake(schema: ValueSchema, text: &str) -> Option<String> {
    let value = match schema {
        ValueSchema::Whole(..) => whole_number(text).map_or(Value::Null, Value::from),
        _ => Value::String(text.to_owned()),
    };
    schema.mistake(&value).map(|(_, mistake)| mistake)
}

/// Reads a number without a sign.
pub(super) fn whole_number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}
