//! Comparison of a database with its record.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::{
    base::{clock, hex::to_hex},
    store::{
        StoreError,
        identity::{DatabaseIdentity, RowNumbers},
        unix_time,
    },
};

/// The purpose of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::cli) enum DatabaseRole {
    /// Users, roles and tokens.
    Users,
    /// Revocations.
    Revocations,
}

/// The record of a revocation, and its end.
pub(super) type RevocationRow = (String, Option<i64>);

/// A database as it was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KnownDatabase {
    pub(super) id: String,
    /// Ids of the databases that it continues.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) predecessors: Vec<String>,
    /// Number of the newest row: an audit event, or a revocation.
    pub(super) newest: i64,
    /// SHA-256 of the record of the newest revocation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    record_sha256: Option<String>,
    /// Time before which that revocation is not deleted, in seconds since 1970; 0 if unknown.
    #[serde(default, skip_serializing_if = "is_zero")]
    kept_until: i64,
}

impl DatabaseRole {
    /// Returns the numbers of the rows by which an older copy is recognized.
    pub(super) const fn numbers(self, identity: &DatabaseIdentity) -> RowNumbers {
        match self {
            Self::Users => identity.events,
            Self::Revocations => identity.revocations,
        }
    }

    /// Returns the table of those rows, and the column of their numbers.
    pub(super) const fn table(self) -> (&'static str, &'static str) {
        match self {
            Self::Users => ("countersign_audit", "id"),
            Self::Revocations => ("countersign_revocation", "number"),
        }
    }

    /// Whether a database may have had contents.
    const fn has_contents(self, known: &KnownDatabase) -> bool {
        match self {
            // Those of earlier versions have no audit event.
            Self::Users => true,
            Self::Revocations => known.newest > 0,
        }
    }

    pub(super) const fn contents(self) -> &'static str {
        match self {
            Self::Users => "users, roles and tokens",
            Self::Revocations => "revocations",
        }
    }

    pub(super) const fn row(self) -> &'static str {
        match self {
            Self::Users => "audit event",
            Self::Revocations => "revocation",
        }
    }
}

impl KnownDatabase {
    pub(super) fn new(identity: DatabaseIdentity, newest: i64, row: Option<RevocationRow>) -> Self {
        let DatabaseIdentity { id, predecessors, .. } = identity;
        let kept_until = row.as_ref().map_or(0, |(_, until)| until.unwrap_or(i64::MAX));
        let record_sha256 = row.map(|(record, _)| sha256(&record));
        Self { id, predecessors, newest, record_sha256, kept_until }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// Compares a database with its record. Returns the difference.
pub(super) fn compare(
    role: DatabaseRole,
    location: &str,
    known: &BTreeMap<String, KnownDatabase>,
    identity: Option<&DatabaseIdentity>,
    row: impl Fn(i64) -> Result<Option<RevocationRow>, StoreError>,
) -> Result<Option<String>, StoreError> {
    let contents = role.contents();
    let here = known.get(location);
    let expected = || {
        let expected = here.map(|here| (location, here)).or_else(|| latest(known));
        expected.filter(|(_, before)| role.has_contents(before))
    };
    let Some(identity) = identity else {
        return Ok(expected().map(|(place, before)| {
            format!(
                "{location} does not exist: the {contents} that this server knew are in the \
                 database {} at {place}",
                before.id
            )
        }));
    };
    let same = here.filter(|here| here.id == identity.id);
    let same = same.or_else(|| known.values().find(|known| known.id == identity.id));
    let Some(before) = same else {
        if known.values().any(|known| identity.predecessors.contains(&known.id)) {
            return Ok(None);
        }
        return Ok(expected().map(|(place, before)| {
            format!(
                "{location} is another database ({}) than the one that this server knew ({} at \
                 {place}): {contents} made there are not in it",
                identity.id, before.id
            )
        }));
    };
    let (numbers, name) = (role.numbers(identity), role.row());
    if numbers.newest.max(numbers.assigned) < before.newest {
        return Ok(Some(format!(
            "{location} was restored from an older copy: its newest {name} is number {}, and this \
             server knew number {}; {contents} made in between may be lost",
            numbers.newest, before.newest
        )));
    }
    let Some(expected) = &before.record_sha256 else { return Ok(None) };
    let Some((record, _)) = row(before.newest)? else {
        // The newest row is never deleted, and another one only after its end.
        let is_lost = numbers.newest < before.newest || clock::now() < unix_time(before.kept_until);
        return Ok(is_lost.then(|| {
            format!(
                "{location} lacks {name} {}, which this server knew: its newest is number {}",
                before.newest, numbers.newest
            )
        }));
    };
    Ok((sha256(&record) != *expected).then(|| {
        format!(
            "{location} was restored from an older copy: its {name} number {} is another one than \
             this server knew; {contents} made since the copy may be lost",
            before.newest
        )
    }))
}

/// Returns the location that has come furthest.
pub(super) fn latest(known: &BTreeMap<String, KnownDatabase>) -> Option<(&str, &KnownDatabase)> {
    let latest = known.iter().max_by_key(|(_, known)| known.newest);
    latest.map(|(location, known)| (location.as_str(), known))
}

pub(super) fn help(role: DatabaseRole) -> String {
    let risk = match role {
        DatabaseRole::Users => "",
        DatabaseRole::Revocations => {
            " If revocations are lost, their tokens are accepted again: revoke them again, or \
             rotate the signing key."
        }
    };
    format!(
        "if this is not intended, correct [database], or stop the server and restore a backup \
         (countersign database restore).{risk} If it is, run countersign database confirm"
    )
}

fn sha256(record: &str) -> String {
    to_hex(digest(&SHA256, record.as_bytes()).as_ref())
}
