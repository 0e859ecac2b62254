//! The decision on a request of a proxy, in memory that is used again.

use std::ops::Range;

use countersign_front::RequestHead;
use http::{HeaderValue, StatusCode, header};

use super::EmbeddedRequest;
use crate::{
    auth::{
        AuthDecision,
        header_changes::{HeaderChanges, is_identity_header},
        settings::AuthSettings,
    },
    base::{header_names::is_header, reply::Reply},
    identities::settings::is_access_token,
    tenancy::identity::TenantIdentity,
};

/// The decision on a request. Its memory is kept when the next decision is written, so that writing
/// one does not allocate.
#[derive(Clone, Debug, Default)]
pub struct CheckDecision {
    /// Whether the proxy passes the request on.
    is_allowed: bool,
    /// The status of the response, if the request is refused.
    status: u16,
    /// Whether the request has a line of a name in `lines`.
    replaces: bool,
    bytes: Vec<u8>,
    /// Names and values of header lines.
    lines: Vec<[Range<usize>; 2]>,
    /// Names of header lines to remove.
    removed: Vec<Range<usize>>,
    body: Range<usize>,
    identity: [Range<usize>; IDENTITY_PARTS],
    claims: Range<usize>,
}

/// What a decision has if the request is allowed. What a proxy does not use costs time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecisionParts {
    /// The changes of its header lines. A proxy may make them by its own configuration.
    pub changes: bool,
    /// Its [identity](CheckDecision::identity).
    pub identity: bool,
    /// All claims of its token. Without them, a decision on a cached token does not allocate.
    pub claims: bool,
}

/// The number of texts in a [`CallerIdentity`].
const IDENTITY_PARTS: usize = 6;

/// The caller of an allowed request. A text without a value is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallerIdentity<'d> {
    /// Its subject.
    pub subject: &'d [u8],
    /// Its username.
    pub user: &'d [u8],
    /// The issuer of its token.
    pub issuer: &'d [u8],
    /// The client types of its token, separated by commas.
    pub client_types: &'d [u8],
    /// The environment of its token.
    pub environment: &'d [u8],
    /// The tenant that it acts for.
    pub tenant: &'d [u8],
}

impl CheckDecision {
    /// Returns a refusal without a status, to be written to.
    #[must_use]
    pub const fn new() -> Self {
        const NONE: Range<usize> = 0..0;
        Self {
            is_allowed: false,
            status: 0,
            replaces: false,
            bytes: Vec::new(),
            lines: Vec::new(),
            removed: Vec::new(),
            body: NONE,
            identity: [NONE; IDENTITY_PARTS],
            claims: NONE,
        }
    }

    /// Whether the proxy passes the request on.
    #[must_use]
    pub const fn is_allowed(&self) -> bool {
        self.is_allowed
    }

    /// Returns the status of the response; 200 if the request is allowed.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// Returns names and values of header lines. If the request is allowed, they replace its own
    /// lines of the same name; otherwise they are those of the response.
    pub fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.lines.iter().map(|[name, value]| (self.text(name), self.text(value)))
    }

    /// Whether an allowed request has a header line that one of [`lines`](Self::lines) replaces.
    #[must_use]
    pub const fn replaces(&self) -> bool {
        self.replaces
    }

    /// Returns the names of the header lines to remove from an allowed request, which has them.
    pub fn removed(&self) -> impl Iterator<Item = &[u8]> {
        self.removed.iter().map(|name| self.text(name))
    }

    /// Returns the body of the response to a refused request.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.text(&self.body)
    }

    /// Returns the caller of an allowed request.
    #[must_use]
    pub fn identity(&self) -> CallerIdentity<'_> {
        let [subject, user, issuer, client_types, environment, tenant] =
            self.identity.each_ref().map(|part| self.text(part));
        CallerIdentity { subject, user, issuer, client_types, environment, tenant }
    }

    /// Returns the claims of the token of an allowed request, as a JSON object. Empty without a
    /// token, and if the request did not ask for them.
    #[must_use]
    pub fn claims(&self) -> &[u8] {
        self.text(&self.claims)
    }

    /// Decides that the request is refused, because nothing can be decided now.
    pub fn refuse_overload(&mut self) {
        self.refuse(StatusCode::SERVICE_UNAVAILABLE);
        self.add_line(header::RETRY_AFTER.as_str().as_bytes(), b"1");
    }

    /// Decides that the request is refused with this status.
    pub fn refuse(&mut self, status: StatusCode) {
        self.clear();
        self.status = status.as_u16();
        self.add_line(header::CACHE_CONTROL.as_str().as_bytes(), b"no-store");
    }

    /// Writes the decision on a request.
    pub(super) fn write(
        &mut self,
        settings: &AuthSettings,
        request: &EmbeddedRequest<'_, impl RequestHead>,
        decision: &AuthDecision<'_>,
    ) {
        self.clear();
        if let AuthDecision::Refused(reply) = decision {
            self.write_refusal(reply);
            return;
        }
        (self.is_allowed, self.status) = (true, StatusCode::OK.as_u16());
        let DecisionParts { changes, identity, claims } = request.parts;
        if changes {
            self.write_changes(settings, request.head, decision);
        }
        if identity {
            self.write_identity(decision);
        }
        if let Some(verified) = decision.verified().filter(|_| claims) {
            self.claims = self.add(&verified.claims().json());
        }
    }

    fn write_changes(
        &mut self,
        settings: &AuthSettings,
        head: &impl RequestHead,
        decision: &AuthDecision<'_>,
    ) {
        let changes = HeaderChanges::new(settings, decision, head);
        for (name, value) in changes.set() {
            self.replaces |= head.any_name(&|line| is_header(line, name));
            self.add_line(name.as_str().as_bytes(), value);
        }
        // Only what the request has: each removal is a call of the proxy, which looks for the name.
        head.for_each_line(&mut |name, _| {
            if changes.removes(name) {
                self.add_removed(name);
            }
        });
    }

    /// Writes that a request is allowed without a check.
    pub(super) fn write_unchecked(&mut self, settings: &AuthSettings, head: &impl RequestHead) {
        self.clear();
        (self.is_allowed, self.status) = (true, StatusCode::OK.as_u16());
        head.for_each_line(&mut |name, _| {
            if is_identity_header(settings, name) {
                self.add_removed(name);
            }
        });
    }

    fn write_refusal(&mut self, reply: &Reply) {
        self.status = reply.response.status().as_u16();
        for (name, value) in reply.response.headers() {
            self.add_line(name.as_str().as_bytes(), HeaderValue::as_bytes(value));
        }
        self.body = self.add(reply.response.body());
    }

    fn write_identity(&mut self, decision: &AuthDecision<'_>) {
        let (verified, tenant) = (decision.verified(), decision.tenant());
        if let Some(verified) = verified {
            let caller = verified.identity();
            // The tokens of machine identities have their login method in this place.
            let environment = if is_access_token(verified) { b"" } else { caller.environment() };
            let texts = [
                caller.subject(),
                caller.user(),
                caller.issuer(),
                caller.client_types(),
                environment,
            ];
            let [subject, user, issuer, client_types, environment, _] = &mut self.identity;
            let parts = [subject, user, issuer, client_types, environment];
            for (part, text) in parts.into_iter().zip(texts) {
                *part = add_to(&mut self.bytes, text);
            }
        }
        if let Some(identity) = tenant {
            self.identity[1] = self.add(TenantIdentity::user(identity));
            self.identity[IDENTITY_PARTS - 1] = self.add(identity.tenant());
        }
    }

    fn clear(&mut self) {
        let Self { bytes, lines, removed, .. } = std::mem::take(self);
        *self = Self { bytes, lines, removed, ..Self::default() };
        self.bytes.clear();
        self.lines.clear();
        self.removed.clear();
    }

    fn add(&mut self, text: &[u8]) -> Range<usize> {
        add_to(&mut self.bytes, text)
    }

    fn add_line(&mut self, name: &[u8], value: &[u8]) {
        let line = [name, value].map(|text| add_to(&mut self.bytes, text));
        self.lines.push(line);
    }

    /// Adds a name of lines to remove, once.
    fn add_removed(&mut self, name: &[u8]) {
        if self.removed().any(|removed| removed.eq_ignore_ascii_case(name)) {
            return;
        }
        let name = self.add(name);
        self.removed.push(name);
    }

    fn text(&self, range: &Range<usize>) -> &[u8] {
        self.bytes.get(range.clone()).unwrap_or_default()
    }
}

fn add_to(bytes: &mut Vec<u8>, text: &[u8]) -> Range<usize> {
    let start = bytes.len();
    bytes.extend_from_slice(text);
    start..bytes.len()
}
