//! The filter: it checks requests by the rules of its listener or their route, and applies the
//! decisions.

use std::{borrow::Cow, cell::Cell, path::Path, sync::Arc};

use countersign_server::embedding::{
    CheckDecision, DecisionParts, EmbeddedRequest, EmbeddedTier, TierConfig,
};
use http::{StatusCode, header};

use crate::{
    envoy::{DefinedCounter, EnvoyConfig, EnvoyStream, HeaderMemory, NAMESPACE, is_validating},
    metadata::set_metadata,
    options::{FilterOptions, RouteRules},
    pending::PendingStream,
    request::{StreamRequest, is_grpc, without_head},
    tiers,
};

/// A filter as configured.
pub(crate) struct FilterConfig {
    /// Absent if Envoy only validates its configuration: that starts no threads.
    pub(crate) tier: Option<Arc<EmbeddedTier>>,
    /// The index of the listener by whose rules requests are checked.
    pub(crate) listener: usize,
    pub(crate) clear_route_cache: bool,
    pub(crate) metadata_claims: Vec<String>,
    pub(crate) counters: FilterCounters,
}

/// The counters of a filter.
#[derive(Clone, Copy, Default)]
pub(crate) struct FilterCounters {
    /// Checks that allowed the request.
    allowed: Option<DefinedCounter>,
    /// Checks that refused it, with a status below 500.
    refused: Option<DefinedCounter>,
    /// Checks that waited, for keys or for the turn of a signature check. They also count
    /// elsewhere.
    waited: Option<DefinedCounter>,
    /// Checks that could not decide, and refused the request with 500 or 503.
    failed: Option<DefinedCounter>,
}

/// The progress of a request after the hook for its headers.
pub(crate) enum StreamProgress {
    /// It continues.
    Passed,
    /// It has a response.
    Refused,
    /// It waits.
    Pending(Arc<PendingStream>),
}

/// The progress of a check.
enum CheckProgress {
    /// The decision is written.
    Decided,
    /// The route is not checked. The changes of header lines are written as a decision.
    Unchecked,
    /// The decision is passed to this later.
    Pending(Arc<PendingStream>),
}

/// Memory of a thread for its requests, which is used again.
#[derive(Default)]
struct RequestMemory {
    headers: HeaderMemory,
    decision: CheckDecision,
}

thread_local! {
    static MEMORY: Cell<RequestMemory> = const { Cell::new(RequestMemory::new()) };
}

impl FilterConfig {
    /// Creates a filter.
    ///
    /// # Errors
    /// The mistakes in its options or in the configuration file, with places and remedies.
    pub(crate) fn new(envoy: &EnvoyConfig, name: &[u8], config: &[u8]) -> Result<Self, String> {
        let options = FilterOptions::read(name, config)?;
        let file = &*options.config_file;
        let config = tiers::load(file)?;
        let listener = config.listener(&options.listener);
        let listener =
            listener.ok_or_else(|| unknown_listener(file, &options.listener, &config))?;
        let tier = if is_validating() { None } else { Some(tiers::tier(file, config)?) };
        let FilterOptions { clear_route_cache, metadata_claims, .. } = options;
        let counters = FilterCounters::define(envoy);
        Ok(Self { tier, listener, clear_route_cache, metadata_claims, counters })
    }

    /// Decides about the request of a stream, and changes or answers it.
    pub(crate) fn on_request(&self, stream: EnvoyStream<'_>) -> StreamProgress {
        // A hook that runs within this one has new memory, and so has the next after a panic.
        let mut memory = MEMORY.take();
        let progress = match self.check(&stream, &mut memory) {
            CheckProgress::Decided => self.apply(stream, &memory.decision),
            CheckProgress::Unchecked => {
                pass_or_fail(stream, |stream| change_headers(stream, &memory.decision))
            }
            CheckProgress::Pending(pending) => StreamProgress::Pending(pending),
        };
        MEMORY.set(memory);
        progress
    }

    /// Continues or answers a stream that waited. The stream may end before this returns.
    pub(crate) fn on_decision(&self, mut stream: EnvoyStream<'_>, decision: &CheckDecision) {
        self.counters.count_decision(&stream, decision);
        if !decision.is_allowed() {
            respond(stream, decision);
        } else if self.change(&mut stream, decision) {
            stream.continue_decoding();
        } else {
            respond_with(stream, StatusCode::INTERNAL_SERVER_ERROR);
        }
    }

    /// Decides about a request, and writes the decision to `memory`.
    fn check(&self, stream: &EnvoyStream<'_>, memory: &mut RequestMemory) -> CheckProgress {
        let RequestMemory { headers, decision } = memory;
        let Some(tier) = &self.tier else {
            decision.refuse_overload();
            return CheckProgress::Decided;
        };
        let listener = match stream.route() {
            None => self.listener,
            Some(RouteRules::Off) => {
                tier.pass(&without_head(stream, headers), decision);
                return CheckProgress::Unchecked;
            }
            Some(RouteRules::Listener(name)) => match tier.listener(name.text()) {
                Some(listener) => listener,
                None => {
                    name.report_unknown();
                    decision.refuse(StatusCode::INTERNAL_SERVER_ERROR);
                    return CheckProgress::Decided;
                }
            },
        };
        let request = match StreamRequest::read(stream, headers) {
            Ok(request) => request,
            Err(status) => {
                decision.refuse(status);
                return CheckProgress::Decided;
            }
        };
        let StreamRequest { head, is_tls, peer, certificate } = &request;
        let request = EmbeddedRequest {
            head,
            is_tls: *is_tls,
            peer: *peer,
            certificate: *certificate,
            parts: DecisionParts {
                changes: true,
                identity: false,
                claims: !self.metadata_claims.is_empty(),
            },
        };
        if tier.check(listener, &request, decision) {
            return CheckProgress::Decided;
        }
        let Some(scheduler) = stream.scheduler() else {
            decision.refuse_overload();
            return CheckProgress::Decided;
        };
        stream.count(self.counters.waited);
        let pending = Arc::new(PendingStream::new(scheduler));
        let decided = Arc::clone(&pending);
        tier.check_later(listener, &request, Box::new(move |decision| decided.decide(decision)));
        CheckProgress::Pending(pending)
    }

    /// Applies a decision to its request.
    fn apply(&self, stream: EnvoyStream<'_>, decision: &CheckDecision) -> StreamProgress {
        self.counters.count_decision(&stream, decision);
        if decision.is_allowed() {
            return pass_or_fail(stream, |stream| self.change(stream, decision));
        }
        respond(stream, decision);
        StreamProgress::Refused
    }

    /// Changes an allowed request. Returns `false` if it cannot be changed.
    fn change(&self, stream: &mut EnvoyStream<'_>, decision: &CheckDecision) -> bool {
        if !change_headers(stream, decision) {
            return false;
        }
        set_metadata(stream, &self.metadata_claims, decision.claims());
        if self.clear_route_cache {
            stream.clear_route_cache();
        }
        true
    }
}

/// Removes and sets the header lines of an allowed request. Returns `false` if that fails.
fn change_headers(stream: &mut EnvoyStream<'_>, decision: &CheckDecision) -> bool {
    let is_removed = decision.removed().all(|name| stream.remove_header(name));
    let mut lines = decision.lines();
    // Envoy adds a line faster than it looks for others of its name.
    is_removed
        && if decision.replaces() {
            lines.all(|(name, value)| stream.set_header(name, value))
        } else {
            lines.all(|(name, value)| stream.add_header(name, value))
        }
}

/// Passes a request on if `change` succeeds. Otherwise a client's own identity headers could be
/// left in it.
fn pass_or_fail<'h>(
    mut stream: EnvoyStream<'h>,
    change: impl FnOnce(&mut EnvoyStream<'h>) -> bool,
) -> StreamProgress {
    if change(&mut stream) {
        return StreamProgress::Passed;
    }
    respond_with(stream, StatusCode::INTERNAL_SERVER_ERROR);
    StreamProgress::Refused
}

/// The header line of a refusal for the operator of the proxy, which a client does not get.
const ERROR_HEADER: &[u8] = b"x-auth-error";

/// Sends the response to a refused request.
fn respond(stream: EnvoyStream<'_>, decision: &CheckDecision) {
    // Envoy writes the length of the body itself.
    let is_sent =
        |name: &[u8]| name != header::CONTENT_LENGTH.as_str().as_bytes() && name != ERROR_HEADER;
    let lines = decision.lines().filter(|(name, _)| is_sent(name));
    let error = decision.lines().find(|(name, _)| *name == ERROR_HEADER);
    // Envoy answers a call of gRPC with HTTP status 200. Without this line, it was successful.
    let grpc = is_grpc(&stream).then(|| (&b"grpc-status"[..], grpc_status(decision.status())));
    let details = response_details(error.map(|(_, value)| value));
    stream.respond(decision.status(), lines.chain(grpc), decision.body(), &details);
}

/// Returns the details of a response, for Envoy's access log: the name of this module, and after a
/// colon the reject code, which is the first word of an error.
fn response_details(error: Option<&[u8]>) -> Cow<'static, [u8]> {
    let code = error.and_then(|error| error.split(|byte| *byte == b' ').next());
    code.map_or(Cow::Borrowed(NAMESPACE), |code| [NAMESPACE, b":", code].concat().into())
}

/// Returns the status of gRPC for one of HTTP (gRPC, "HTTP to gRPC Status Code Mapping").
const fn grpc_status(status: u16) -> &'static [u8] {
    match status {
        400 => b"13",
        401 => b"16",
        403 => b"7",
        404 => b"12",
        429 | 502..=504 => b"14",
        _ => b"2",
    }
}

/// Sends a response with this status.
pub(crate) fn respond_with(stream: EnvoyStream<'_>, status: StatusCode) {
    let mut refusal = CheckDecision::new();
    refusal.refuse(status);
    respond(stream, &refusal);
}

fn unknown_listener(file: &Path, name: &str, config: &TierConfig) -> String {
    let (file, names) = (file.display(), config.listener_names().collect::<Vec<_>>().join(", "));
    format!("listener in filter_config is {name:?}: {file} has {names}")
}

impl RequestMemory {
    const fn new() -> Self {
        Self { headers: HeaderMemory::new(), decision: CheckDecision::new() }
    }
}

impl FilterCounters {
    fn define(envoy: &EnvoyConfig) -> Self {
        let [allowed, refused, waited, failed] =
            ["allowed", "refused", "waited", "failed"].map(|name| envoy.define_counter(name));
        Self { allowed, refused, waited, failed }
    }

    fn count_decision(&self, stream: &EnvoyStream<'_>, decision: &CheckDecision) {
        stream.count(match decision.status() {
            _ if decision.is_allowed() => self.allowed,
            500.. => self.failed,
            _ => self.refused,
        });
    }
}
