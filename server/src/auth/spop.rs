//! Checks of HAProxy over SPOP: the message `check`, and the variables that answer it.
//!
//! The message has the arguments `method`, `path` (with the query), `src` and `headers`, and
//! optionally `id` and `scheme`. `headers` is the binary form of all header lines. An argument that
//! HAProxy has no value for is null, which a client can cause. A message of another form is a
//! mistake of the configuration.
//!
//! The answer sets `allowed` and `status`. If the request is allowed, there is a variable for each
//! identity header with a value, and otherwise for each header of the response. Its name is that of
//! the header, with underscores: `x_auth_user`, `www_authenticate`.

use std::net::IpAddr;

use countersign_front::{
    Fields as _,
    spop::{
        action::ActionList,
        error::SpopError,
        value::{PayloadReader, SpopValue},
    },
};
use http::{Response, StatusCode, header};

use super::{
    AuthDecision, DecisionSettings,
    forward_auth::identity_headers,
    message_headers::{MessageHeader, MessageHeaders},
    proxy_check::{CheckContext, ProxyCheck},
    settings::AuthSettings,
};
use crate::{
    base::{
        outcome::Outcome,
        reply::{Body, Reply, empty, no_store},
    },
    client::ClientCertificate,
};

/// The name of the message.
const MESSAGE: &[u8] = b"check";

/// A request that HAProxy asks about. Not `Debug`, as it holds a token.
pub struct SpopRequest<'m> {
    arguments: CheckArguments<'m>,
    headers: MessageHeaders<'m>,
    source: Option<IpAddr>,
}

/// The texts among the arguments. Those that are missing or null are empty.
#[derive(Clone, Copy, Default)]
struct CheckArguments<'m> {
    id: &'m [u8],
    method: &'m [u8],
    path: &'m [u8],
    scheme: &'m [u8],
}

impl<'m> SpopRequest<'m> {
    /// Reads the payload of a NOTIFY frame. `None` if it lacks the header lines, or has more than
    /// are supported: the client has sent too many, or too long ones.
    ///
    /// # Errors
    /// It does not have exactly one message, with the arguments of a check.
    pub fn read(payload: &'m [u8]) -> Result<Option<Self>, SpopError> {
        const MESSAGES: SpopError = SpopError::invalid("the message is not a single check");
        let mut reader = PayloadReader::new(payload);
        if reader.text()? != MESSAGE {
            return Err(MESSAGES);
        }
        let mut values = ArgumentValues::default();
        for _ in 0..reader.byte()? {
            let name = reader.text()?;
            values.take(name, reader.value()?)?;
        }
        if !reader.is_empty() {
            return Err(MESSAGES);
        }
        let [id, method, path, scheme] = [values.id, values.method, values.path, values.scheme];
        let arguments = CheckArguments {
            id: text(id.unwrap_or(SpopValue::Null))?,
            method: text(method.ok_or(INCOMPLETE)?)?,
            path: text(path.ok_or(INCOMPLETE)?)?,
            scheme: text(scheme.unwrap_or(SpopValue::Null))?,
        };
        let source = address(values.src.ok_or(INCOMPLETE)?)?;
        let headers = match values.headers.ok_or(INCOMPLETE)? {
            SpopValue::Binary(lines) => read_headers(lines)?,
            SpopValue::Null => None,
            _ => return Err(TYPE),
        };
        Ok(headers.map(|headers| Self { arguments, headers, source }))
    }

    /// Returns the request for its decision.
    pub fn check<'r>(
        &'r self,
        context: &'r CheckContext<'_, '_, impl DecisionSettings>,
    ) -> ProxyCheck<'r, MessageHeaders<'m>> {
        let CheckArguments { id, method, path, scheme } = self.arguments;
        let (peer, settings, fields) = (&context.peer, context.client, &self.headers);
        ProxyCheck {
            id,
            source: self.source,
            certificate: ClientCertificate::Deferred { peer, settings, fields },
            method,
            path,
            // Of several lines, which HAProxy refuses, none would be the host.
            host: fields.line(&header::HOST, 0).unwrap_or_default(),
            scheme,
            fields,
        }
    }
}

const INCOMPLETE: SpopError =
    SpopError::invalid("a check has the arguments method, path, src and headers");
const TYPE: SpopError = SpopError::invalid("an argument has another type");

/// The arguments of a message, as they were read.
#[derive(Default)]
struct ArgumentValues<'m> {
    id: Option<SpopValue<'m>>,
    method: Option<SpopValue<'m>>,
    path: Option<SpopValue<'m>>,
    scheme: Option<SpopValue<'m>>,
    src: Option<SpopValue<'m>>,
    headers: Option<SpopValue<'m>>,
}

impl<'m> ArgumentValues<'m> {
    /// Takes an argument. One with a misspelt name would otherwise be missed.
    fn take(&mut self, name: &[u8], value: SpopValue<'m>) -> Result<(), SpopError> {
        let argument = match name {
            b"id" => &mut self.id,
            b"method" => &mut self.method,
            b"path" => &mut self.path,
            b"scheme" => &mut self.scheme,
            b"src" => &mut self.src,
            b"headers" => &mut self.headers,
            _ => return Err(SpopError::invalid("an argument has an unknown name")),
        };
        match argument.replace(value) {
            None => Ok(()),
            Some(_) => Err(SpopError::invalid("an argument occurs twice")),
        }
    }
}

fn text(value: SpopValue<'_>) -> Result<&[u8], SpopError> {
    match value {
        SpopValue::Text(text) => Ok(text),
        SpopValue::Null => Ok(b""),
        _ => Err(TYPE),
    }
}

/// Returns the address of a client; `None` for one that connected to a Unix socket.
fn address(value: SpopValue<'_>) -> Result<Option<IpAddr>, SpopError> {
    match value {
        SpopValue::Address(address) => Ok(Some(address)),
        SpopValue::Null => Ok(None),
        _ => Err(TYPE),
    }
}

/// Reads header lines in HAProxy's binary form: names and values, with their lengths, up to a pair
/// of which both are empty. `None` if they are too many.
fn read_headers(lines: &[u8]) -> Result<Option<MessageHeaders<'_>>, SpopError> {
    const MALFORMED: SpopError = SpopError::invalid("the header lines are malformed");
    let (mut reader, mut headers) = (PayloadReader::new(lines), MessageHeaders::default());
    let mut pushed = Ok(());
    loop {
        let (name, value) = (reader.text()?, reader.text()?);
        match (name, value) {
            (b"", b"") if reader.is_empty() => return Ok(pushed.ok().map(|()| headers)),
            (b"", _) => return Err(MALFORMED),
            _ => pushed = pushed.and_then(|()| headers.push(MessageHeader { name, value })),
        }
    }
}

/// Returns the refusal of a request whose header lines are too many, or too long.
#[must_use]
pub fn too_large() -> AuthDecision<'static> {
    let response = empty(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    AuthDecision::Refused(no_store(response).into())
}

/// Writes the variables of a decision. Returns its status and outcome.
pub fn put_decision(
    actions: &mut ActionList<'_>,
    settings: &AuthSettings,
    decision: &AuthDecision<'_>,
) -> (StatusCode, Option<Outcome>) {
    if let AuthDecision::Refused(reply) = decision {
        put_refusal(actions, &reply.response);
        return (reply.counted, reply.outcome);
    }
    put_status(actions, true, StatusCode::OK);
    for (name, value) in identity_headers(settings, decision).filter(|(_, value)| !value.is_empty())
    {
        actions.set(name.as_str(), SpopValue::Text(value));
    }
    (StatusCode::OK, Some(decision.outcome()))
}

fn put_refusal(actions: &mut ActionList<'_>, response: &Response<Body>) {
    put_status(actions, false, response.status());
    for (name, value) in response.headers() {
        actions.set(name.as_str(), SpopValue::Text(value.as_bytes()));
    }
}

fn put_status(actions: &mut ActionList<'_>, is_allowed: bool, status: StatusCode) {
    actions.set("allowed", SpopValue::Flag(is_allowed));
    actions.set("status", SpopValue::Integer(status.as_u16().into()));
}

/// Returns the response to a check whose decision was pending. Its body are the actions.
#[must_use]
pub fn reply(settings: &AuthSettings, decision: AuthDecision<'_>) -> Reply {
    let mut actions = Vec::new();
    let (counted, outcome) = put_decision(&mut ActionList::new(&mut actions), settings, &decision);
    Reply { outcome, counted, ..Response::new(Body::from(actions)).into() }
}

#[cfg(test)]
mod tests;
