//! Verification of many tokens in one call.
//!
//! A batch makes three steps of each token whose signature check can share lanes with others: it is
//! read up to the check, waits until enough others do, and is then verified with the known result.
//! Reading a token twice costs a fraction of the check that is saved. All other tokens are verified
//! at once.

use std::sync::Arc;

use arc_swap::Guard;

use super::{DueCheck, PresentedToken, SignatureCheck, Verifier};
use crate::{
    algorithm::RsaImplementation,
    keyset::{SignatureInput, VerificationKey},
    presentation::Presentation,
    reject::Reject,
    snapshot::Snapshot,
    time::UnixTime,
    token,
    verified::Verified,
};

/// Most tokens that wait for their signature check. Several full groups of lanes, so that tokens of
/// different kinds rarely leave lanes empty.
const MAX_PENDING: usize = 64;

/// Longest signature that lanes verify.
const MAX_SIGNATURE_BYTES: usize = 512;

/// The result of a token, which borrows its bytes.
type TokenResult<'t> = Result<Verified<'t>, Reject>;

impl Verifier {
    /// Verifies tokens as [`verify`](Self::verify) does, one after the other, with the same results
    /// in `results`, which must be as long. RSA signatures are checked eight at a time where the
    /// processor can ([`RsaImplementation`]), which is several times as fast.
    ///
    /// All tokens are verified under one snapshot.
    pub fn verify_batch<'t>(
        &self,
        tokens: &[&'t [u8]],
        now: UnixTime,
        results: &mut [Result<Verified<'t>, Reject>],
    ) {
        self.verify_batch_if(tokens, now, |_| true, results);
    }

    /// Verifies tokens as [`verify_if`](Self::verify_if) does, one after the other. `admit` is
    /// called for the same signature checks in the same order, unless the cache drops one of these
    /// tokens meanwhile. Like there, it must not use a verifier itself.
    pub fn verify_batch_if<'t>(
        &self,
        tokens: &[&'t [u8]],
        now: UnixTime,
        mut admit: impl FnMut(&SignatureCheck<'_>) -> bool,
        results: &mut [Result<Verified<'t>, Reject>],
    ) {
        self.verify_batch_with(tokens, now, |_, check| admit(check), results);
    }

    /// Verifies tokens as [`verify_batch_if`](Self::verify_batch_if) does, and passes `admit` the
    /// index of the token too, so that the caller can charge the checks of those that are rejected.
    pub fn verify_batch_with<'t>(
        &self,
        tokens: &[&'t [u8]],
        now: UnixTime,
        mut admit: impl FnMut(usize, &SignatureCheck<'_>) -> bool,
        results: &mut [Result<Verified<'t>, Reject>],
    ) {
        let snapshot = self.current.load_full();
        let mut batch = TokenBatch::new(self, &snapshot, now);
        for (index, token) in tokens.iter().copied().enumerate().take(results.len()) {
            if batch.is_full() || batch.contains(token) {
                batch.finish(results);
            }
            let admit = |check: &SignatureCheck<'_>| admit(index, check);
            if let Some(result) = batch.begin(index, token, admit) {
                set(results, index, result);
            }
        }
        batch.finish(results);
    }
}

fn set<'t>(results: &mut [TokenResult<'t>], index: usize, result: TokenResult<'t>) {
    if let Some(place) = results.get_mut(index) {
        *place = result;
    }
}

/// The tokens of a batch that wait for their signature check.
struct TokenBatch<'b, 't> {
    verifier: &'b Verifier,
    snapshot: &'b Arc<Snapshot>,
    now: UnixTime,
    pending: [Option<PendingToken<'b, 't>>; MAX_PENDING],
    length: usize,
}

/// A token that was read up to its signature check, which is admitted.
#[derive(Clone, Copy)]
struct PendingToken<'b, 't> {
    /// Its index in the batch.
    index: usize,
    token: &'t [u8],
    /// The only key that may have made the signature.
    key: &'b VerificationKey,
}

impl<'b, 't> TokenBatch<'b, 't> {
    fn new(verifier: &'b Verifier, snapshot: &'b Arc<Snapshot>, now: UnixTime) -> Self {
        Self { verifier, snapshot, now, pending: [None; MAX_PENDING], length: 0 }
    }

    fn is_full(&self) -> bool {
        self.length == MAX_PENDING
    }

    /// Whether the same token is pending. Its result may be cached, so it has to be known first.
    fn contains(&self, token: &[u8]) -> bool {
        self.pending.iter().flatten().any(|pending| pending.token == token)
    }

    /// Verifies a token up to its signature check, and adds it to those that wait. Returns the
    /// result if it need not wait.
    fn begin(
        &mut self,
        index: usize,
        token: &'t [u8],
        mut admit: impl FnMut(&SignatureCheck<'_>) -> bool,
    ) -> Option<TokenResult<'t>> {
        let uses_lanes = self.verifier.rsa == RsaImplementation::Auto;
        let mut deferred = None;
        let result = self.verify(token, |due| {
            if !(uses_lanes && due.is_only_key && due.input().fits_lanes()) {
                return due.verify_if(&mut admit);
            }
            if admit(&due.signature_check()) {
                deferred = Some(due.key);
            }
            Err(Reject::NotAdmitted)
        });
        let Some(key) = deferred else { return Some(result) };
        if let Some(place) = self.pending.get_mut(self.length) {
            *place = Some(PendingToken { index, token, key });
            self.length = self.length.saturating_add(1);
        }
        None
    }

    /// Checks the signatures of the tokens that wait, and verifies these tokens.
    fn finish(&mut self, results: &mut [TokenResult<'t>]) {
        if core::mem::take(&mut self.length) == 0 {
            return;
        }
        let pending = core::mem::replace(&mut self.pending, [None; MAX_PENDING]);
        let is_valid = check_signatures(&pending, self.verifier.rsa);
        let pending = pending.into_iter().flatten();
        for (PendingToken { index, token, key }, is_valid) in pending.zip(is_valid) {
            let result = self.verify(token, |due| {
                // The same snapshot selects the same key, and the check was admitted before.
                if core::ptr::eq(due.key, key) { Ok(is_valid) } else { due.verify_if(|_| true) }
            });
            set(results, index, result);
        }
    }

    /// Verifies a token as [`Verifier::verify_with`] does, with this snapshot.
    fn verify(
        &self,
        token: &'t [u8],
        check: impl FnMut(DueCheck<'b, '_>) -> Result<bool, Reject>,
    ) -> TokenResult<'t> {
        let snapshot = || Guard::from_inner(Arc::clone(self.snapshot));
        let cached = self.verifier.cache.as_ref().and_then(|cache| cache.find(token));
        match cached {
            Some(record) if self.verifier.still_holds(self.snapshot, &record, self.now) => {
                Ok(Verified::new(token, snapshot(), record, true))
            }
            cached => {
                let presentation = Presentation::default();
                let presented = PresentedToken { token, now: self.now, presentation };
                let callbacks = (check, drop);
                let record =
                    self.verifier.verify_uncached(&presented, self.snapshot, cached, callbacks)?;
                Ok(Verified::new(token, snapshot(), record, false))
            }
        }
    }
}

/// Returns whether the signatures are valid.
fn check_signatures(
    pending: &[Option<PendingToken<'_, '_>>; MAX_PENDING],
    rsa: RsaImplementation,
) -> [bool; MAX_PENDING] {
    let mut buffers = [[0; MAX_SIGNATURE_BYTES]; MAX_PENDING];
    let mut inputs = [None; MAX_PENDING];
    for ((input, buffer), pending) in inputs.iter_mut().zip(&mut buffers).zip(pending) {
        let Some(PendingToken { token, key, .. }) = pending else { continue };
        // It was decoded before. If it could not be, it would be refused for that.
        let (signing_input, signature) = token::signature(token, buffer).unwrap_or_default();
        *input = Some(SignatureInput { key, signing_input, signature });
    }
    let mut is_valid = [false; MAX_PENDING];
    SignatureInput::verify_all(inputs.iter().copied().flatten(), rsa, &mut is_valid);
    is_valid
}

#[cfg(test)]
mod tests;
