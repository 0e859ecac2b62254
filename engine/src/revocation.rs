//! Tokens that are refused although they are genuine: revoked by token id, by
//! subject, by key, by issuer, or one by one.
//!
//! A revocation only ever adds a refusal, so it needs no new snapshot: it is true
//! of every verification that starts after it was entered, whatever issuers, keys
//! and rules are in force by then.

mod filter;

use core::{
    fmt,
    hash::{BuildHasher as _, Hasher as _},
    iter,
};
use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{SHA256, digest};
use foldhash::fast::RandomState;

use crate::{
    reject::Reject,
    time::UnixTime,
    token::{Scratch, with_scratch},
};
use filter::Filter;

/// What the filter is synchronized by; replaced where it is model-checked.
mod sync {
    pub(super) use core::sync::atomic::{AtomicU64, Ordering};
}

/// Which tokens are revoked.
#[derive(Clone, PartialEq, Eq)]
pub enum Revoked {
    /// The token with this `jti` (RFC 7519 section 4.1.7).
    TokenId {
        /// Its issuer.
        issuer: Box<str>,
        /// Its `jti`.
        token_id: Box<str>,
    },
    /// Every token of a subject that was issued before a moment. One that does not
    /// say when it was issued is among them.
    Subject {
        /// The issuer.
        issuer: Box<str>,
        /// The `sub`.
        subject: Box<str>,
        /// The first `iat` that is accepted.
        issued_before: UnixTime,
    },
    /// Every token signed with the key of this id.
    Key {
        /// The issuer.
        issuer: Box<str>,
        /// The `kid`.
        kid: Box<str>,
    },
    /// Every token of an issuer, or of all issuers, that was issued before a
    /// moment. One that does not say when it was issued is among them.
    Everything {
        /// The issuer; `None` for all of them.
        issuer: Option<Box<str>>,
        /// The first `iat` that is accepted.
        issued_before: UnixTime,
    },
    /// The token with this SHA-256 of its signing input (RFC 7515 section 2): for
    /// tokens without a `jti`. Not of the whole token, because anyone can make a
    /// second valid ECDSA signature out of a first.
    SigningInput([u8; 32]),
}

impl fmt::Debug for Revoked {
    /// Names the kind. Subjects and token ids are nobody's business in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Revoked({})", self.kind_name())
    }
}

/// Tokens that are revoked, and for how long that must be remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Which tokens.
    pub what: Revoked,
    /// The first moment at which none of them can be alive any more, so that the
    /// revocation may be forgotten; `None` if there is no such moment.
    pub until: Option<UnixTime>,
}

impl Revocation {
    /// What revokes exactly this token although nobody can say whether it is genuine,
    /// because its key is not known: what was signed, and nothing that it says of
    /// itself, which may be somebody else's. For ever; whoever enters it sets a bound.
    ///
    /// # Errors
    /// The [`Reject`] of bytes that are no token.
    pub fn of_unproven(token: &[u8]) -> Result<Self, Reject> {
        with_scratch(|scratch| {
            let jws = scratch.jws.decode(token)?;
            Ok(Self { what: Revoked::signing_input(jws.signing_input), until: None })
        })
    }
}

/// There is no room for a further entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevocationsFull {
    /// How many entries there may be.
    pub capacity: usize,
}

impl fmt::Display for RevocationsFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is room for {} revocations and no more", self.capacity)
    }
}

impl core::error::Error for RevocationsFull {}

/// The kinds of revocation, each a bit of [`Revocations::present`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    TokenId = 1,
    Subject = 2,
    Key = 4,
    Issuer = 8,
    All = 16,
    SigningInput = 32,
}

impl Kind {
    const fn bit(self) -> u8 {
        #[expect(clippy::as_conversions, reason = "the discriminants are the bits")]
        {
            self as u8
        }
    }
}

/// Set until the revocations that were kept have been read back.
const UNKNOWN: u8 = 128;
/// How many parts the table is changed in. One entry more copies one part.
const SHARDS: usize = 1024;

/// The name of an entry: kind, issuer and value, unambiguously joined.
type Name = Arc<[u8]>;
type Shard = HashMap<Name, Entry, RandomState>;

#[derive(Clone, Copy)]
struct Entry {
    /// Tokens issued from this moment on are not meant; [`FOREVER`] for all.
    issued_before: UnixTime,
    until: Option<UnixTime>,
}

const FOREVER: UnixTime = UnixTime(u64::MAX);

/// The revocations in force, read by every verification.
///
/// # Synchronization
/// One [`Revoker`] writes. A part of the table is an immutable map behind an
/// [`ArcSwap`]; a change copies that part and swaps it in, so that a reader meets
/// it before or after. `present` says which kinds there are at all and is set
/// (Release) after the map that holds the first of a kind, read (Acquire) before
/// the maps: a reader that sees the bit sees the entry. Nobody clears the bit of a
/// kind. When [`Revoker::enter`] has returned, the filter holds every name in the maps,
/// and perhaps some more: about those a remembered token is asked the whole way.
pub struct Revocations {
    present: AtomicU8,
    hash: RandomState,
    shards: Box<[ArcSwap<Shard>]>,
    filter: ArcSwap<Filter>,
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocations").field("known", &self.are_known()).finish_non_exhaustive()
    }
}

/// What a token is called in the filter: by its token id, subject, key and signing
/// input. Kept with a cached token, for asking whether it may have been revoked since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names(pub(crate) [u64; 4]);

impl Names {
    const KINDS: [Kind; 4] = [Kind::TokenId, Kind::Subject, Kind::Key, Kind::SigningInput];
    /// Of a token that has nothing of the kind.
    const ABSENT: u64 = 0;
    /// Of a signing input that nobody has digested, since none was revoked.
    const UNDIGESTED: u64 = 1;
}

/// What of a token can be revoked.
pub(crate) struct Presented<'t> {
    pub(crate) issuer: &'t str,
    pub(crate) kid: Option<&'t str>,
    pub(crate) token_id: Option<&'t str>,
    pub(crate) subject: Option<&'t str>,
    pub(crate) issued_at: Option<UnixTime>,
    pub(crate) signing_input: &'t [u8],
}

impl Revocations {
    fn new(present: u8, capacity: usize) -> Self {
        let hash = RandomState::default();
        let nothing = Arc::new(Shard::with_hasher(hash.clone()));
        let shards =
            iter::repeat_with(|| ArcSwap::new(Arc::clone(&nothing))).take(SHARDS).collect();
        Self {
            present: AtomicU8::new(present),
            hash,
            shards,
            filter: ArcSwap::from_pointee(Filter::with_room_for(capacity)),
        }
    }

    /// Whether what was revoked in the past is known. Until then every token is
    /// answered with [`Reject::RevocationsUnavailable`].
    #[must_use]
    pub fn are_known(&self) -> bool {
        self.present.load(Ordering::Acquire) & UNKNOWN == 0
    }

    /// Whether the token is revoked. `name` is memory to build names in.
    pub(crate) fn check(&self, token: &Presented<'_>, name: &mut Vec<u8>) -> Result<(), Reject> {
        let present = self.present.load(Ordering::Acquire);
        // Nearly always nothing is revoked, or only by token id.
        if present == 0 {
            return Ok(());
        }
        if present & UNKNOWN != 0 {
            return Err(Reject::RevocationsUnavailable);
        }
        let mut revoked = |kind: Kind, issuer: &str, value: Option<&[u8]>| {
            value.is_some_and(|value| {
                present & kind.bit() != 0
                    && self.holds((kind, issuer, value), token.issued_at, name)
            })
        };
        let found = revoked(Kind::TokenId, token.issuer, token.token_id.map(str::as_bytes))
            || revoked(Kind::Subject, token.issuer, token.subject.map(str::as_bytes))
            || revoked(Kind::Key, token.issuer, token.kid.map(str::as_bytes))
            || revoked(Kind::Issuer, token.issuer, Some(b""))
            || revoked(Kind::All, "", Some(b""))
            || (present & Kind::SigningInput.bit() != 0
                && revoked(Kind::SigningInput, "", Some(&sha256(token.signing_input))));
        if found { Err(Reject::Revoked) } else { Ok(()) }
    }

    /// What this token is called.
    pub(crate) fn names(&self, token: &Presented<'_>) -> Names {
        let issuer = self.hash.hash_one(token.issuer);
        let name = |kind, value: Option<&[u8]>| {
            value.map_or(Names::ABSENT, |value| self.filter_hash(kind, issuer, value))
        };
        // A digest costs as much as all the rest, and is nearly never asked for.
        let is_asked_for = self.present.load(Ordering::Acquire) & Kind::SigningInput.bit() != 0;
        Names([
            name(Kind::TokenId, token.token_id.map(str::as_bytes)),
            name(Kind::Subject, token.subject.map(str::as_bytes)),
            name(Kind::Key, token.kid.map(str::as_bytes)),
            if is_asked_for {
                self.signing_input_hash(&sha256(token.signing_input))
            } else {
                Names::UNDIGESTED
            },
        ])
    }

    /// Whether a token that was not revoked when it was verified may be by now. Surely
    /// not if `false`; otherwise [`check`](Self::check) tells.
    #[inline]
    pub(crate) fn may_concern(
        &self,
        names: Names,
        issuer: &str,
        issued_at: Option<UnixTime>,
    ) -> bool {
        let present = self.present.load(Ordering::Acquire);
        present != 0
            && (present & UNKNOWN != 0
                || self.may_hold(present, names)
                || self.holds_issuer(present, issuer, issued_at))
    }

    fn may_hold(&self, present: u8, names: Names) -> bool {
        let filter = self.filter.load();
        Names::KINDS.into_iter().zip(names.0).any(|(kind, name)| {
            present & kind.bit() != 0
                && name != Names::ABSENT
                && (name == Names::UNDIGESTED || filter.may_hold(name))
        })
    }

    /// Whether everything is revoked that this issuer, or anybody, issued then.
    fn holds_issuer(&self, present: u8, issuer: &str, issued_at: Option<UnixTime>) -> bool {
        let either = [(Kind::Issuer, issuer), (Kind::All, "")]
            .map(|(kind, issuer)| (present & kind.bit() != 0).then_some((kind, issuer)));
        either.into_iter().flatten().any(|(kind, issuer)| {
            with_scratch(|Scratch { name, .. }| self.holds((kind, issuer, b""), issued_at, name))
        })
    }

    /// Whether this was revoked for what was issued then. `name` is memory to build in.
    fn holds(
        &self,
        (kind, issuer, value): (Kind, &str, &[u8]),
        issued_at: Option<UnixTime>,
        name: &mut Vec<u8>,
    ) -> bool {
        write_name(name, kind, issuer, value);
        self.issued_before(name)
            .is_some_and(|moment| issued_at.is_none_or(|issued_at| issued_at < moment))
    }

    fn signing_input_hash(&self, digest: &[u8]) -> u64 {
        self.filter_hash(Kind::SigningInput, self.hash.hash_one(""), digest)
    }

    fn filter_hash(&self, kind: Kind, issuer: u64, value: &[u8]) -> u64 {
        let mut hasher = self.hash.build_hasher();
        hasher.write_u64(issuer);
        hasher.write_u8(kind.bit());
        hasher.write(value);
        hasher.finish().max(2)
    }

    /// The moment from which tokens are not meant by the entry of this name.
    fn issued_before(&self, name: &[u8]) -> Option<UnixTime> {
        Some(self.shard(name)?.load().get(name)?.issued_before)
    }

    fn shard(&self, name: &[u8]) -> Option<&ArcSwap<Shard>> {
        self.shards.get(self.place(name))
    }

    /// By the upper bits of the hash; the map inside goes by all of them.
    fn place(&self, name: &[u8]) -> usize {
        let bits = self.hash.hash_one(name) >> (u64::BITS.saturating_sub(SHARDS.trailing_zeros()));
        usize::try_from(bits).unwrap_or(0)
    }
}

/// Enters and forgets revocations; there is one for one [`Revocations`].
#[derive(Debug)]
pub struct Revoker {
    revocations: Arc<Revocations>,
    capacity: usize,
    count: usize,
}

impl Revoker {
    /// A table in which nothing is revoked.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { revocations: Arc::new(Revocations::new(0, capacity)), capacity, count: 0 }
    }

    /// A table that is not known yet: until [`enter_kept`](Self::enter_kept) has brought
    /// back what was kept, every token is answered with [`Reject::RevocationsUnavailable`].
    #[must_use]
    pub fn unknown(capacity: usize) -> Self {
        Self { revocations: Arc::new(Revocations::new(UNKNOWN, capacity)), capacity, count: 0 }
    }

    /// The table it writes, for [`Verifier::with_revocations`](crate::Verifier::with_revocations).
    #[must_use]
    pub fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    /// Says that there are revocations which cannot be read: until the next that are
    /// entered, tokens are answered as if none were known.
    pub fn lose_track(&mut self) {
        self.revocations.present.fetch_or(UNKNOWN, Ordering::Release);
    }

    /// How many entries there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many entries there may be.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether there is an entry for exactly these tokens.
    #[must_use]
    pub fn knows(&self, what: &Revoked) -> bool {
        self.revocations
            .issued_before(&what.name())
            .is_some_and(|moment| moment >= what.issued_before())
    }

    /// Whether there is room for these: tells before anything is written elsewhere.
    ///
    /// # Errors
    /// [`RevocationsFull`].
    pub fn check_room(&self, further: &[Revocation]) -> Result<(), RevocationsFull> {
        let names = further.iter().map(|revocation| revocation.what.name());
        let new: HashSet<_> =
            names.filter(|name| self.revocations.issued_before(name).is_none()).collect();
        if !new.is_empty() && self.count.saturating_add(new.len()) > self.capacity {
            return Err(RevocationsFull { capacity: self.capacity });
        }
        Ok(())
    }

    /// Enters all of them. Of two about the same tokens the stricter counts.
    /// Verifications that start after this returns refuse these tokens.
    ///
    /// # Errors
    /// [`RevocationsFull`]; then none of them was entered.
    pub fn enter(&mut self, revocations: &[Revocation]) -> Result<(), RevocationsFull> {
        self.check_room(revocations)?;
        self.enter_kept(revocations);
        Ok(())
    }

    /// Enters what is kept elsewhere already, however much it is: there was room for
    /// it when it was kept, and to drop it would bring it back to life.
    pub fn enter_kept(&mut self, revocations: &[Revocation]) {
        let mut changed: HashMap<usize, Shard, RandomState> = HashMap::default();
        let mut kinds = 0;
        for Revocation { what, until } in revocations {
            let name = what.name();
            let place = self.revocations.place(&name);
            let Some(current) = self.revocations.shards.get(place) else { continue };
            let shard = changed.entry(place).or_insert_with(|| Shard::clone(&current.load()));
            let entry = Entry { issued_before: what.issued_before(), until: *until };
            let merged = shard.get(&*name).map_or(entry, |earlier| entry.or_stricter(earlier));
            if shard.insert(name.into(), merged).is_none() {
                self.count = self.count.saturating_add(1);
            }
            kinds |= what.kind().bit();
        }
        for (place, shard) in changed {
            self.swap(place, shard);
        }
        let filter = self.revocations.filter.load();
        revocations.iter().for_each(|revocation| filter.enter(self.filter_hash(&revocation.what)));
        let known = self.revocations.present.load(Ordering::Relaxed) & !UNKNOWN;
        self.revocations.present.store(known | kinds, Ordering::Release);
    }

    /// Forgets the entries that are over at `now`, and says how many those were.
    pub fn forget_over(&mut self, now: UnixTime) -> usize {
        let is_over = |entry: &Entry| entry.until.is_some_and(|until| until <= now);
        let mut forgotten = 0usize;
        for place in 0..SHARDS {
            let Some(shard) = self.revocations.shards.get(place).map(ArcSwap::load_full) else {
                continue;
            };
            let over = shard.values().filter(|entry| is_over(entry)).count();
            if over > 0 {
                let mut kept = Shard::clone(&shard);
                kept.retain(|_, entry| !is_over(entry));
                self.swap(place, kept);
                forgotten = forgotten.saturating_add(over);
            }
        }
        self.count = self.count.saturating_sub(forgotten);
        if forgotten > 0 {
            let filter = Filter::with_room_for(self.capacity);
            self.all()
                .iter()
                .for_each(|revocation| filter.enter(self.filter_hash(&revocation.what)));
            self.revocations.filter.store(Arc::new(filter));
        }
        forgotten
    }

    fn filter_hash(&self, what: &Revoked) -> u64 {
        let (issuer, value) = what.issuer_and_value();
        self.revocations.filter_hash(what.kind(), self.revocations.hash.hash_one(issuer), value)
    }

    /// Everything that is revoked, in no particular order.
    #[must_use]
    pub fn all(&self) -> Vec<Revocation> {
        let shards = self.revocations.shards.iter().map(ArcSwap::load_full);
        shards
            .flat_map(|shard| {
                shard.iter().filter_map(|(name, entry)| read_name(name, *entry)).collect::<Vec<_>>()
            })
            .collect()
    }

    fn swap(&self, place: usize, shard: Shard) {
        if let Some(current) = self.revocations.shards.get(place) {
            current.store(Arc::new(shard));
        }
    }
}

impl Entry {
    fn or_stricter(self, other: &Self) -> Self {
        Self {
            issued_before: self.issued_before.max(other.issued_before),
            until: self.until.zip(other.until).map(|(one, other)| one.max(other)),
        }
    }
}

impl Revoked {
    /// The one token with this signing input: everything before its last dot.
    #[must_use]
    pub fn signing_input(signing_input: &[u8]) -> Self {
        Self::SigningInput(sha256(signing_input))
    }

    /// What kind it is, for logs.
    #[must_use]
    pub const fn kind_name(&self) -> &'static str {
        match self {
            Self::TokenId { .. } => "token id",
            Self::Subject { .. } => "subject",
            Self::Key { .. } => "key",
            Self::Everything { issuer: Some(_), .. } => "issuer",
            Self::Everything { issuer: None, .. } => "everything",
            Self::SigningInput(_) => "signing input",
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::TokenId { .. } => Kind::TokenId,
            Self::Subject { .. } => Kind::Subject,
            Self::Key { .. } => Kind::Key,
            Self::Everything { issuer: Some(_), .. } => Kind::Issuer,
            Self::Everything { issuer: None, .. } => Kind::All,
            Self::SigningInput(_) => Kind::SigningInput,
        }
    }

    fn issued_before(&self) -> UnixTime {
        match self {
            Self::Subject { issued_before, .. } | Self::Everything { issued_before, .. } => {
                *issued_before
            }
            Self::TokenId { .. } | Self::Key { .. } | Self::SigningInput(_) => FOREVER,
        }
    }

    fn issuer_and_value(&self) -> (&str, &[u8]) {
        match self {
            Self::TokenId { issuer, token_id: value }
            | Self::Subject { issuer, subject: value, .. }
            | Self::Key { issuer, kid: value } => (issuer, value.as_bytes()),
            Self::Everything { issuer, .. } => (issuer.as_deref().unwrap_or_default(), b""),
            Self::SigningInput(digest) => ("", digest),
        }
    }

    fn name(&self) -> Vec<u8> {
        let (issuer, value) = self.issuer_and_value();
        let mut name = Vec::new();
        write_name(&mut name, self.kind(), issuer, value);
        name
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

/// The length keeps apart what concatenation would confuse.
fn write_name(name: &mut Vec<u8>, kind: Kind, issuer: &str, value: &[u8]) {
    name.clear();
    name.push(kind.bit());
    name.extend_from_slice(&u32::try_from(issuer.len()).unwrap_or(u32::MAX).to_be_bytes());
    name.extend_from_slice(issuer.as_bytes());
    name.extend_from_slice(value);
}

/// What [`write_name`] wrote.
fn read_name(name: &[u8], entry: Entry) -> Option<Revocation> {
    let (kind, rest) = name.split_first()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (issuer, value) =
        rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    let issuer: Box<str> = str::from_utf8(issuer).ok()?.into();
    let text = || str::from_utf8(value).ok().map(Box::from);
    let what = match *kind {
        kind if kind == Kind::TokenId.bit() => Revoked::TokenId { issuer, token_id: text()? },
        kind if kind == Kind::Subject.bit() => {
            Revoked::Subject { issuer, subject: text()?, issued_before: entry.issued_before }
        }
        kind if kind == Kind::Key.bit() => Revoked::Key { issuer, kid: text()? },
        kind if kind == Kind::Issuer.bit() => {
            Revoked::Everything { issuer: Some(issuer), issued_before: entry.issued_before }
        }
        kind if kind == Kind::All.bit() => {
            Revoked::Everything { issuer: None, issued_before: entry.issued_before }
        }
        _ => Revoked::SigningInput(value.try_into().ok()?),
    };
    Some(Revocation { what, until: entry.until })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token_id(id: &str, until: Option<u64>) -> Revocation {
        Revocation {
            what: Revoked::TokenId { issuer: "i".into(), token_id: id.into() },
            until: until.map(UnixTime),
        }
    }

    fn token(id: &str) -> Presented<'_> {
        Presented {
            issuer: "i",
            kid: Some("k"),
            token_id: Some(id),
            subject: Some("s"),
            issued_at: Some(UnixTime(1000)),
            signing_input: b"h.p",
        }
    }

    fn check(revoker: &Revoker, token: &Presented<'_>) -> Result<(), Reject> {
        revoker.revocations().check(token, &mut Vec::new())
    }

    fn one(what: Revoked) -> Revoker {
        let mut revoker = Revoker::new(10);
        revoker.enter(&[Revocation { what, until: None }]).unwrap();
        revoker
    }

    #[test]
    fn each_kind_meets_its_tokens_and_no_others() {
        let token_id = one(Revoked::TokenId { issuer: "i".into(), token_id: "1".into() });
        assert_eq!(check(&token_id, &token("1")), Err(Reject::Revoked));
        for other in [
            token("2"),
            token(""),
            Presented { issuer: "j", ..token("1") },
            Presented { token_id: None, ..token("1") },
        ] {
            assert_eq!(check(&token_id, &other), Ok(()));
        }
        let key = one(Revoked::Key { issuer: "i".into(), kid: "k".into() });
        assert_eq!(check(&key, &token("1")), Err(Reject::Revoked));
        for other in [
            Presented { kid: Some("l"), ..token("1") },
            Presented { kid: None, ..token("1") },
            Presented { issuer: "", ..token("1") },
        ] {
            assert_eq!(check(&key, &other), Ok(()));
        }
        let input = one(Revoked::signing_input(b"h.p"));
        assert_eq!(check(&input, &token("1")), Err(Reject::Revoked));
        assert_eq!(check(&input, &Presented { signing_input: b"h.q", ..token("1") }), Ok(()));
    }

    #[test]
    fn issued_before_is_exact_and_a_token_without_iat_is_older_than_everything() {
        let subject = |moment| {
            one(Revoked::Subject {
                issuer: "i".into(),
                subject: "s".into(),
                issued_before: UnixTime(moment),
            })
        };
        let issuer = |moment| {
            one(Revoked::Everything { issuer: Some("i".into()), issued_before: UnixTime(moment) })
        };
        let all =
            |moment| one(Revoked::Everything { issuer: None, issued_before: UnixTime(moment) });
        for revoked in [&subject as &dyn Fn(u64) -> Revoker, &issuer, &all] {
            assert_eq!(check(&revoked(1001), &token("1")), Err(Reject::Revoked));
            assert_eq!(check(&revoked(1000), &token("1")), Ok(()));
            assert_eq!(
                check(&revoked(0), &Presented { issued_at: None, ..token("1") }),
                Err(Reject::Revoked)
            );
        }
        assert_eq!(check(&subject(2000), &Presented { subject: Some("t"), ..token("1") }), Ok(()));
        assert_eq!(check(&subject(2000), &Presented { subject: None, ..token("1") }), Ok(()));
        assert_eq!(check(&issuer(2000), &Presented { issuer: "j", ..token("1") }), Ok(()));
        assert_eq!(
            check(&all(2000), &Presented { issuer: "j", ..token("1") }),
            Err(Reject::Revoked)
        );
    }

    #[test]
    fn names_that_look_alike_when_joined_are_kept_apart() {
        let joined = one(Revoked::TokenId { issuer: "ab".into(), token_id: "c".into() });
        assert_eq!(
            check(&joined, &Presented { issuer: "a", token_id: Some("bc"), ..token("") }),
            Ok(())
        );
        let subject = one(Revoked::Subject {
            issuer: "i".into(),
            subject: "k".into(),
            issued_before: UnixTime(9999),
        });
        assert_eq!(check(&subject, &token("k")), Ok(()), "a key or a token of the same name");
    }

    #[test]
    fn the_stricter_of_two_counts() {
        let subject = |moment, until| Revocation {
            what: Revoked::Subject {
                issuer: "i".into(),
                subject: "s".into(),
                issued_before: UnixTime(moment),
            },
            until,
        };
        let mut revoker = Revoker::new(1);
        revoker
            .enter(&[
                subject(500, None),
                subject(1500, Some(UnixTime(1))),
                subject(700, Some(UnixTime(5))),
            ])
            .unwrap();
        assert_eq!((revoker.count(), revoker.all()), (1, vec![subject(1500, None)]));
    }

    #[test]
    fn the_capacity_is_exact_and_passing_it_changes_nothing() {
        let mut revoker = Revoker::new(3);
        revoker.enter(&[token_id("1", None), token_id("2", None)]).unwrap();
        assert_eq!(
            revoker.enter(&[token_id("3", None), token_id("4", None)]),
            Err(RevocationsFull { capacity: 3 })
        );
        assert_eq!((revoker.count(), check(&revoker, &token("3"))), (2, Ok(())));
        revoker.enter(&[token_id("3", None), token_id("1", None)]).unwrap();
        assert_eq!(revoker.enter(&[token_id("4", None)]), Err(RevocationsFull { capacity: 3 }));
        assert_eq!(revoker.enter(&[token_id("3", None)]), Ok(()), "what is there needs no room");
        revoker.enter_kept(&[token_id("5", None)]);
        assert_eq!(
            (revoker.count(), check(&revoker, &token("5"))),
            (4, Err(Reject::Revoked)),
            "what is kept is never dropped"
        );
        assert_eq!(revoker.enter(&[token_id("6", None)]), Err(RevocationsFull { capacity: 3 }));
        assert_eq!(revoker.enter(&[token_id("5", None)]), Ok(()));
    }

    #[test]
    fn entries_leave_when_they_are_over_and_never_before() {
        let mut revoker = Revoker::new(10);
        revoker
            .enter(&[token_id("1", Some(100)), token_id("2", Some(101)), token_id("3", None)])
            .unwrap();
        assert_eq!(revoker.forget_over(UnixTime(99)), 0);
        assert_eq!(revoker.forget_over(UnixTime(100)), 1);
        assert_eq!(
            ["1", "2", "3"].map(|id| check(&revoker, &token(id)).is_err()),
            [false, true, true]
        );
        assert_eq!(revoker.forget_over(UnixTime(u64::MAX)), 1);
        assert_eq!((revoker.count(), check(&revoker, &token("3"))), (1, Err(Reject::Revoked)));
    }

    #[test]
    fn while_they_are_unknown_no_token_is_judged() {
        let mut revoker = Revoker::unknown(10);
        assert!(!revoker.revocations().are_known());
        assert_eq!(check(&revoker, &token("1")), Err(Reject::RevocationsUnavailable));
        revoker.enter(&[]).unwrap();
        assert_eq!(
            (revoker.revocations().are_known(), check(&revoker, &token("1"))),
            (true, Ok(()))
        );
        revoker.lose_track();
        assert_eq!(check(&revoker, &token("1")), Err(Reject::RevocationsUnavailable));
        revoker.enter(&[]).unwrap();
        assert_eq!(check(&revoker, &token("1")), Ok(()));
    }

    #[test]
    fn everything_entered_comes_back_as_it_was() {
        let whats = [
            Revoked::TokenId { issuer: "ä".into(), token_id: String::new().into() },
            Revoked::Subject {
                issuer: "i".into(),
                subject: "s\0".into(),
                issued_before: UnixTime(7),
            },
            Revoked::Key { issuer: String::new().into(), kid: "k".into() },
            Revoked::Everything { issuer: Some("i".into()), issued_before: UnixTime(8) },
            Revoked::Everything { issuer: None, issued_before: UnixTime(9) },
            Revoked::SigningInput([3; 32]),
        ];
        for what in whats {
            let revocation = Revocation { what, until: Some(UnixTime(50)) };
            let mut revoker = Revoker::new(10);
            revoker.enter(std::slice::from_ref(&revocation)).unwrap();
            assert_eq!(revoker.all(), [revocation]);
        }
    }

    #[test]
    fn ten_thousand_entries_are_told_apart() {
        let mut revoker = Revoker::new(10_000);
        let entries: Vec<_> = (0..10_000).map(|id| token_id(&id.to_string(), None)).collect();
        for part in entries.chunks(100) {
            revoker.enter(part).unwrap();
        }
        assert_eq!((revoker.count(), revoker.all().len()), (10_000, 10_000));
        assert!((0..10_000).all(|id| check(&revoker, &token(&id.to_string())).is_err()));
        assert!((10_000..20_000).all(|id| check(&revoker, &token(&id.to_string())).is_ok()));
    }
}
