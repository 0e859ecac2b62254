//! The input of an evaluation: the request and the claims of its token.

use std::collections::BTreeMap;

use regorus::{Value, value::Object};
use serde_json::{Map, Value as Json};

use super::error::EvaluationError;
use crate::{
    authorization::{IssuerStanding, endpoints::FoundEndpoint},
    base::claims::{TENANT_MEMBER, TENANT_USER_MEMBER},
    tenancy::{identity::TenantNames, request_tenant::RequestTenant},
};

/// Maximum size of a [`PolicyInput`] in bytes of JSON.
pub(crate) const MAX_INPUT_BYTES: usize = 64 << 10;

/// Replaces secrets.
pub(super) const MASK: &str = "**********";

/// The input of an evaluation, as `input` in the policy.
#[derive(Clone, Copy, Debug)]
pub struct PolicyInput<'i> {
    /// `input.request.endpoint_id`: method and path of the endpoint.
    pub endpoint_id: &'i str,
    /// `input.request.parameters`. Passwords in it are masked.
    pub parameters: &'i Map<String, Json>,
    /// `input.token`: the claims of the token.
    pub token: &'i Map<String, Json>,
    /// `input.issuer`: the section of the token, if it is not the one that signs.
    pub issuer: Option<&'i str>,
    /// The tenant in `input.token` and `input.request`, on the `orchestrate` surface.
    pub tenant: Option<RequestTenant<'i>>,
}

/// The names of the members of a [`PolicyInput`], as values. Each thread has its own, so that threads do not share
/// reference counts.
pub(super) struct InputNames {
    request: Value,
    endpoint_id: Value,
    parameters: Value,
    token: Value,
    issuer: Value,
    name: Value,
}

impl Default for InputNames {
    fn default() -> Self {
        Self {
            request: "request".into(),
            endpoint_id: "endpoint_id".into(),
            parameters: "parameters".into(),
            token: "token".into(),
            issuer: "issuer".into(),
            name: "name".into(),
        }
    }
}

impl<'i> PolicyInput<'i> {
    /// Creates the input of a call by the bearer of a token with these claims.
    pub(in crate::authorization) fn of_call(
        call: &'i FoundEndpoint<'_>,
        claims: &'i Map<String, Json>,
        issuer: IssuerStanding<'i>,
        tenant: Option<RequestTenant<'i>>,
    ) -> Self {
        Self {
            endpoint_id: &call.id,
            parameters: &call.parameters,
            token: claims,
            issuer: (!issuer.is_own).then_some(issuer.section),
            tenant,
        }
    }
}

impl PolicyInput<'_> {
    /// Converts the input for the interpreter.
    ///
    /// # Errors
    /// The input is too large.
    pub(super) fn to_value(self, names: &InputNames) -> Result<Value, EvaluationError> {
        let mut budget = MAX_INPUT_BYTES;
        self.convert(names, &mut budget).ok_or_else(too_large)
    }

    fn convert(self, names: &InputNames, budget: &mut usize) -> Option<Value> {
        spend(budget, self.endpoint_id.len())?;
        let mut request = BTreeMap::from([
            (names.endpoint_id.clone(), self.endpoint_id.into()),
            (names.parameters.clone(), members(self.parameters, true, budget)?),
        ]);
        let mut token = entries(self.token, false, budget)?;
        if let Some([of_request, of_token]) = self.tenant_members() {
            request.extend(entries(&of_request, false, budget)?);
            token.extend(entries(&of_token, false, budget)?);
        }
        let mut input =
            vec![(names.request.clone(), object(request)), (names.token.clone(), object(token))];
        if let Some(section) = self.issuer {
            spend(budget, section.len())?;
            let issuer = object([(names.name.clone(), section.into())]);
            input.push((names.issuer.clone(), issuer));
        }
        Some(object(input))
    }

    /// Returns the further members of `input.request` and of `input.token`. Those of the token
    /// replace its claims of the same names.
    fn tenant_members(self) -> Option<[Map<String, Json>; 2]> {
        let RequestTenant { credential, acting } = self.tenant?;
        let TenantNames { tenant, allowed_tenants, username } = acting.names();
        let (own_tenant, own_user) = credential.names();
        let mut request = Map::new();
        request.insert("tenant".into(), tenant.into());
        request.insert("allowed_tenants".into(), allowed_tenants.into());
        request.extend(username.map(|name| ("username".into(), name.into())));
        let mut token = Map::new();
        token.insert(TENANT_MEMBER.into(), own_tenant.into());
        let own_user = Some(own_user).filter(|user| !user.is_empty());
        token.extend(own_user.map(|name| (TENANT_USER_MEMBER.into(), name.into())));
        Some([request, token])
    }

    /// Returns the input as JSON, as it is logged.
    #[must_use]
    pub fn to_json(self) -> Json {
        let mut parameters = self.parameters.clone();
        mask(&mut parameters);
        let mut input = Map::new();
        let mut request = Map::new();
        request.insert("endpoint_id".into(), self.endpoint_id.into());
        request.insert("parameters".into(), parameters.into());
        let mut token = self.token.clone();
        if let Some([of_request, of_token]) = self.tenant_members() {
            request.extend(of_request);
            token.extend(of_token);
        }
        input.insert("request".into(), request.into());
        input.insert("token".into(), token.into());
        if let Some(section) = self.issuer {
            input.insert("issuer".into(), serde_json::json!({ "name": section }));
        }
        input.into()
    }
}

/// Converts a whole input.
///
/// # Errors
/// The input is too large.
pub(super) fn document(input: &Json) -> Result<Value, EvaluationError> {
    let mut budget = MAX_INPUT_BYTES;
    convert(input, false, &mut budget).ok_or_else(too_large)
}

fn too_large() -> EvaluationError {
    EvaluationError::before(format!("the input has more than {MAX_INPUT_BYTES} bytes"))
}

fn object(members: impl IntoIterator<Item = (Value, Value)>) -> Value {
    Object::from(members.into_iter().collect::<BTreeMap<_, _>>()).into()
}

fn spend(budget: &mut usize, bytes: usize) -> Option<()> {
    // Two quotation marks, or the brackets of a collection, and a separator.
    *budget = budget.checked_sub(bytes + 3)?;
    Some(())
}

/// Converts an object, that of parameters with passwords [masked](MASK).
fn members(members: &Map<String, Json>, masks: bool, budget: &mut usize) -> Option<Value> {
    entries(members, masks, budget).map(object)
}

fn entries(
    members: &Map<String, Json>,
    masks: bool,
    budget: &mut usize,
) -> Option<BTreeMap<Value, Value>> {
    spend(budget, 0)?;
    let converted = members.iter().map(|(name, value)| {
        spend(budget, name.len())?;
        let value = if masks && is_password(name) && !value.is_null() {
            MASK.into()
        } else {
            convert(value, masks, budget)?
        };
        Some((Value::from(name.as_str()), value))
    });
    converted.collect()
}

fn convert(value: &Json, masks: bool, budget: &mut usize) -> Option<Value> {
    let length = if let Json::String(text) = value { text.len() } else { 0 };
    spend(budget, length)?;
    Some(match value {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(number), ..) => number.into(),
            (_, Some(number), _) => number.into(),
            (.., number) => number.map_or(Value::Null, Value::from),
        },
        Json::String(text) => text.as_str().into(),
        Json::Array(values) => {
            let converted = values.iter().map(|value| convert(value, masks, budget));
            converted.collect::<Option<Vec<_>>>()?.into()
        }
        Json::Object(of) => return members(of, masks, budget),
    })
}

/// [Masks](MASK) secrets in parameters.
fn mask(parameters: &mut Map<String, Json>) {
    for (name, value) in parameters {
        match value {
            Json::Null => {}
            _ if is_secret(name) => *value = MASK.into(),
            Json::Object(of) => mask(of),
            Json::Array(values) => values.iter_mut().filter_map(Json::as_object_mut).for_each(mask),
            _ => {}
        }
    }
}

/// Whether a parameter of this name is a password.
fn is_password(name: &str) -> bool {
    contains_word(name, "password")
}

/// Whether a parameter of this name is a secret, which is not logged.
fn is_secret(name: &str) -> bool {
    ["password", "passwd", "secret", "token", "private_key", "api_key"]
        .into_iter()
        .any(|word| contains_word(name, word))
}

/// Whether a name contains a word, in upper or lower case, with `-` or `_`.
fn contains_word(name: &str, word: &str) -> bool {
    let is_same = |(one, other): (&u8, &u8)| {
        one.eq_ignore_ascii_case(other) || (*one == b'-' && *other == b'_')
    };
    name.as_bytes().windows(word.len()).any(|part| part.iter().zip(word.as_bytes()).all(is_same))
}
