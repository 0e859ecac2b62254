//! The functions of the library.
//!
//! What is unsafe is reading and writing through the caller's pointers. Each function states what
//! it asks of them, as the header does, and turns them into slices once, at its start. Everything
//! behind that is safe code. No panic leaves a function: it is caught, logged by the panic hook,
//! and answered as the function answers other failures.
#![expect(unsafe_code, reason = "pointers of C, see above")]
#![expect(non_camel_case_types, reason = "names of C")]

use std::{
    cell::Cell,
    ffi::{CStr, OsStr, c_char, c_void},
    net::IpAddr,
    os::unix::ffi::OsStrExt as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    ptr, slice,
};

use countersign_server::embedding::{
    CacheSize, CheckDecision, ConnectionCertificate, DecisionParts, EmbeddedRequest, EmbeddedTier,
    HeaderLines, TierConfig, UNIX_PEER, process_environment,
};
use http::StatusCode;

use crate::{
    claim::claim,
    decision::{DecisionBuffer, share},
    fork::{count_forks, forks},
    layout::{CS_INTERFACE_VERSION, cs_decision, cs_line, cs_progress, cs_request, cs_text},
    memory::{bytes, bytes_mut},
};

/// A configuration that was read, and is not in use yet.
pub struct cs_config(TierConfig);

/// The auth tier. Any thread may make checks.
pub struct cs_tier {
    tier: EmbeddedTier,
    /// [`forks`] of the process that started it.
    forks: usize,
}

/// Receives a decision that had to wait, on a thread of the tier. It must not block. `context` is
/// what was passed to `cs_check`.
pub type cs_callback =
    Option<unsafe extern "C" fn(context: *mut c_void, decision: *const cs_decision)>;

/// Returns the version of the interface of this library. Compare it with `CS_INTERFACE_VERSION`
/// before any other call, if the library may be replaced while the program stays: with another
/// version, types and functions differ.
#[unsafe(no_mangle)]
pub extern "C" fn cs_interface_version() -> u32 {
    CS_INTERFACE_VERSION
}

/// Reads a configuration file of the server, and all files that it refers to. It starts no thread,
/// so a process may fork afterwards. Returns null on failure, and writes the reason to `error`, as
/// text of at most `error_size` bytes with a terminating zero.
///
/// `file` is the path, terminated by a zero. `error` may be null if `error_size` is 0.
///
/// # Safety
/// The pointers are as stated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cs_config_load(
    file: *const c_char,
    error: *mut c_char,
    error_size: usize,
) -> *mut cs_config {
    // SAFETY: `error` is as stated, and no other reference to it exists meanwhile.
    let error = unsafe { bytes_mut(error, error_size) };
    if file.is_null() {
        return fail(error, "the path of the configuration is null");
    }
    // SAFETY: not null, and terminated as stated.
    let file = Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(file) }.to_bytes()));
    match caught(|| TierConfig::load(file, process_environment(), CacheSize::Worker)) {
        Some(Ok(config)) => Box::into_raw(Box::new(cs_config(config))),
        Some(Err(reason)) => fail(error, &reason),
        None => fail(error, DEFECT),
    }
}

/// Frees a configuration that is not started. Does nothing with null.
///
/// # Safety
/// `config` is null, or of `cs_config_load` and not passed to another function at the same time or
/// later.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cs_config_free(config: *mut cs_config) {
    if !config.is_null() {
        // SAFETY: of `Box::into_raw` in `cs_config_load`, and freed once, as stated.
        drop(unsafe { Box::from_raw(config) });
    }
}

/// Returns the index of the listener with this name, whose rules a check can be made by: `main`, or
/// the name of a section without `listener_`. Returns -1 without such a listener.
///
/// # Safety
/// `config` is of `cs_config_load`, and `name` is terminated by a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cs_config_listener(
    config: *const cs_config,
    name: *const c_char,
) -> isize {
    if config.is_null() || name.is_null() {
        return -1;
    }
    // SAFETY: neither is null, and both are as stated.
    let (config, name) = unsafe { (&*config, CStr::from_ptr(name)) };
    let index = name.to_str().ok().and_then(|name| config.0.listener(name));
    index.and_then(|index| isize::try_from(index).ok()).unwrap_or(-1)
}

/// Starts the tier with a configuration, which is freed in any case. Call it in the process that
/// makes the checks: after a fork, a tier of the parent refuses all requests with 503. Returns null
/// on failure, and writes the reason to `error` as `cs_config_load` does.
///
/// # Safety
/// `config` is of `cs_config_load` and not used again. `error` is as of `cs_config_load`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cs_tier_start(
    config: *mut cs_config,
    error: *mut c_char,
    error_size: usize,
) -> *mut cs_tier {
    // SAFETY: as in `cs_config_load`.
    let error = unsafe { bytes_mut(error, error_size) };
    if config.is_null() {
        return fail(error, "the configuration is null");
    }
    // SAFETY: of `Box::into_raw` in `cs_config_load`, and not used again, as stated.
    let config = unsafe { Box::from_raw(config) };
    count_forks();
    match caught(|| config.0.start()) {
        Some(Ok(tier)) => Box::into_raw(Box::new(cs_tier { tier, forks: forks() })),
        Some(Err(reason)) => fail(error, &reason.to_string()),
        None => fail(error, DEFECT),
    }
}

/// Stops the tier and frees it. Checks that wait are refused with 503 before this returns or soon
/// after it. Does nothing with null.
///
/// # Safety
/// `tier` is null, or of `cs_tier_start` and not passed to another function at the same time or
/// later.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cs_tier_stop(tier: *mut cs_tier) {
    if !tier.is_null() {
        // SAFETY: of `Box::into_raw` in `cs_tier_start`, and freed once, as stated.
        let tier = unsafe { Box::from_raw(tier) };
        let _defect = caught(|| drop(tier));
    }
}

/// Reads the configuration again, in the background. A configuration with mistakes changes nothing.
/// Changed files are noticed without this call.
///
/// # Safety
/// `tier` is of `cs_tier_start`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cs_tier_reload(tier: *const cs_tier) {
    // SAFETY: null or as stated.
    if let Some(tier) = unsafe { tier.as_ref() } {
        let _defect = caught(|| tier.tier.reload());
    }
}

/// Whether keys and revocations have been read, so that good tokens are accepted.
///
/// # Safety
/// `tier` is of `cs_tier_start`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cs_tier_is_ready(tier: *const cs_tier) -> bool {
    // SAFETY: null or as stated.
    let Some(tier) = (unsafe { tier.as_ref() }) else { return false };
    tier.forks == forks() && caught(|| tier.tier.is_ready()).unwrap_or(false)
}

/// Decides about a request by the rules of a listener, of which `listener` is the index. Never
/// blocks. Writes the decision and returns `CS_DECIDED`, or returns `CS_PENDING`: `callback` is
/// then called with `context` and the decision, once, by another thread, which may happen before
/// this returns. With a null `callback`, nothing is started: repeat the call with one.
///
/// # Safety
/// `tier` is of `cs_tier_start`. `request` and `decision` point to one each, and the texts of
/// `request` are as stated there. `context` may be used by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cs_check(
    tier: *const cs_tier,
    listener: usize,
    request: *const cs_request,
    decision: *mut cs_decision,
    callback: cs_callback,
    context: *mut c_void,
) -> cs_progress {
    thread_local! {
        /// What the last decision of this thread refers to.
        static LAST: Cell<DecisionBuffer> = const { Cell::new(DecisionBuffer::new()) };
    }
    // SAFETY: null or as stated.
    let (tier, request) = unsafe { (tier.as_ref(), request.as_ref()) };
    let mut last = LAST.take();
    let caller = CheckCallback { call: callback, context };
    let progress = match (tier, request) {
        (Some(tier), Some(request)) if tier.forks == forks() => {
            // SAFETY: the texts of `request` are as stated, and outlive this call.
            caught(|| unsafe { check(tier, listener, request, &mut last.decision, caller) })
        }
        (Some(_), Some(_)) => {
            last.decision.refuse_overload();
            Some(cs_progress::CS_DECIDED)
        }
        _ => None,
    };
    let progress = progress.unwrap_or_else(|| {
        last.decision.refuse(StatusCode::INTERNAL_SERVER_ERROR);
        cs_progress::CS_DECIDED
    });
    if progress == cs_progress::CS_DECIDED && !decision.is_null() {
        // SAFETY: not null, and one `cs_decision`, as stated.
        unsafe { decision.write(last.shared()) };
    }
    LAST.set(last);
    progress
}

/// Writes a claim to `buffer`, for use in a header: a string with all but visible ASCII
/// percent-encoded, and any other value as JSON in visible ASCII. Returns its length, of which at
/// most `size` bytes are written, or -1 without this claim.
///
/// `claims` is that of a decision, or a copy.
///
/// # Safety
/// The texts are as stated at their type, and `buffer` has `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cs_claim(
    claims: cs_text,
    name: cs_text,
    buffer: *mut c_char,
    size: usize,
) -> isize {
    // SAFETY: as stated.
    let (claims, name, buffer) = unsafe { (bytes(claims), bytes(name), bytes_mut(buffer, size)) };
    let found = str::from_utf8(name).ok().and_then(|name| caught(|| claim(claims, name)).flatten());
    let Some(text) = found else { return -1 };
    let length = text.len().min(buffer.len());
    buffer[..length].copy_from_slice(&text.as_bytes()[..length]);
    isize::try_from(text.len()).unwrap_or(-1)
}

/// Decides about a request.
///
/// # Safety
/// The texts of `request` are as stated at its type.
unsafe fn check(
    tier: &cs_tier,
    listener: usize,
    request: &cs_request,
    decision: &mut CheckDecision,
    callback: CheckCallback,
) -> cs_progress {
    let &cs_request { method, target, host, peer, certificate, .. } = request;
    let &cs_request { is_tls, wants_claims, omits_changes, .. } = request;
    let parts = DecisionParts { changes: !omits_changes, identity: true, claims: wants_claims };
    // SAFETY: as stated.
    let (texts, peer, certificate, lines) = unsafe {
        let lines: &[cs_line] = match request.line_count {
            0 => &[],
            count => slice::from_raw_parts(request.lines, count),
        };
        ([method, target, host].map(|text| bytes(text)), bytes(peer), bytes(certificate), lines)
    };
    let (Ok(head), Some(peer)) = (HeaderLines::new(texts, lines), address(peer)) else {
        decision.refuse(StatusCode::BAD_REQUEST);
        return cs_progress::CS_DECIDED;
    };
    let certificate = ConnectionCertificate::encoded(certificate);
    let head = &head;
    let request = EmbeddedRequest { head, is_tls, peer, certificate, parts };
    if tier.tier.check(listener, &request, decision) {
        return cs_progress::CS_DECIDED;
    }
    if callback.call.is_some() {
        let call = Box::new(move |decision: &CheckDecision| callback.call(decision));
        tier.tier.check_later(listener, &request, call);
    }
    cs_progress::CS_PENDING
}

fn address(text: &[u8]) -> Option<IpAddr> {
    if text.is_empty() {
        return Some(UNIX_PEER);
    }
    str::from_utf8(text).ok()?.parse().ok()
}

/// The caller's function for a decision that had to wait.
struct CheckCallback {
    call: cs_callback,
    context: *mut c_void,
}

// SAFETY: the caller states that `context` may be used by another thread, and does nothing with it
// until the callback has been called.
unsafe impl Send for CheckCallback {}

impl CheckCallback {
    fn call(self, decision: &CheckDecision) {
        let (mut lines, mut removed) = (Vec::new(), Vec::new());
        let shared = share(decision, &mut lines, &mut removed);
        if let Some(call) = self.call {
            // SAFETY: the caller's function, called once with its own context. The decision and
            // what it refers to live until it returns.
            unsafe { call(self.context, &raw const shared) };
        }
    }
}

const DEFECT: &str = "a defect of the library, see the log";

/// Writes the reason of a failure, with a terminating zero, and returns null.
fn fail<T>(error: &mut [u8], reason: &str) -> *mut T {
    if let Some(last) = error.len().checked_sub(1) {
        let length = reason.len().min(last);
        error[..length].copy_from_slice(&reason.as_bytes()[..length]);
        error[length] = 0;
    }
    ptr::null_mut()
}

/// Returns the result of `call`; `None` if it panics. The tier has no state that a panic leaves
/// half changed: what it shares is replaced as a whole.
fn caught<T>(call: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(call)).ok()
}
