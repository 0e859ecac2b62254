//! `[login]`, and the options of `[server]` for passwords and sessions.

use std::{collections::BTreeMap, num::NonZeroU32, thread, time::Duration};

use super::{attempts::AttemptLimits, password::PasswordPolicy};
use crate::config::{problem::Problem, reader::SectionReader, setting::Section};

/// Settings for logins of local users.
#[derive(Clone, Debug)]
pub struct LoginSettings {
    /// Requirements on new passwords.
    pub passwords: PasswordPolicy,
    /// Lifetime of a session in seconds. 0 for the token lifetime of the section.
    pub session: u32,
    /// Time that expired tokens stay in the registry, in seconds.
    pub token_retention: u32,
    /// Rate limits for login attempts.
    pub attempts: AttemptLimits,
    /// Number of threads that hash passwords.
    pub hashing_threads: usize,
    /// Maximum number of passwords queued for hashing.
    pub waiting: usize,
}

impl LoginSettings {
    /// Whether settings differ from `before` that only take effect at a start.
    #[must_use]
    pub fn differs_in_startup_settings(&self, before: &Self) -> bool {
        let started = |login: &Self| {
            (login.attempts, login.hashing_threads, login.waiting, login.token_retention)
        };
        started(self) != started(before)
    }

    pub(crate) fn read(sections: &BTreeMap<String, Section>, problems: &mut Vec<Problem>) -> Self {
        let mut server = SectionReader::new(sections, "server", problems);
        let passwords = PasswordPolicy {
            min_length: server.number("password_min_length", 1..=128).unwrap_or(8),
            min_classes: server.number("password_min_classes", 0..=4).unwrap_or(0),
        };
        let session = server.number("login_session_expire", 0..=u32::MAX).unwrap_or(3600);
        let token_retention = server.number("token_retention", 0..=u32::MAX).unwrap_or(30 * 86_400);
        let mut login = SectionReader::new(sections, "login", problems);
        let attempts = AttemptLimits {
            per_user: read_limit(&mut login, "failures_per_user", 10),
            lockout: Duration::from_secs(login.number("lockout", 1..=86_400).unwrap_or(300)),
            per_source: read_limit(&mut login, "attempts_per_source", 60),
        };
        // Half of the cores, so that the other half answers requests. At most four threads,
        // because each needs 64 MiB.
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self {
            passwords,
            session,
            token_retention,
            attempts,
            hashing_threads: login
                .number("hashing_threads", 1..=1024)
                .unwrap_or_else(|| (cores / 2).clamp(1, 4)),
            waiting: login.number("waiting", 1..=100_000).unwrap_or(64),
        }
    }
}

/// Reads a number or `off`.
fn read_limit(reader: &mut SectionReader<'_>, option: &str, default: u32) -> Option<NonZeroU32> {
    match reader.text(option) {
        Some("off") => None,
        _ => NonZeroU32::new(reader.number(option, 1..=1_000_000).unwrap_or(default)),
    }
}
