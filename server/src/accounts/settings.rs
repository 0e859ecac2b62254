//! `[login]`, and the options of `[server]` for passwords and sessions.

use std::{collections::BTreeMap, num::NonZeroU32, thread};

use super::{attempts::AttemptLimits, password::PasswordPolicy};
use crate::config::{problem::Problems, reader::SectionReader, setting::Section};

/// Settings for logins of local users.
#[derive(Clone, Debug)]
pub struct LoginSettings {
    /// Requirements on new passwords.
    pub passwords: PasswordPolicy,
    /// Lifetime of a session in seconds. 0 for the token lifetime of the section.
    pub session: u32,
    /// Time from a login after which its session cannot be renewed, in seconds. `None` for no
    /// limit.
    pub session_max: Option<NonZeroU32>,
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

    pub(crate) fn read(sections: &BTreeMap<String, Section>, problems: &mut Problems) -> Self {
        let mut server = SectionReader::new(sections, "server", problems);
        let passwords = PasswordPolicy {
            min_length: server.number("password_min_length"),
            min_classes: server.number("password_min_classes"),
        };
        let session = server.number("login_session_expire");
        let session_max = read_session_max(&mut server, session);
        let token_retention = server.number("token_retention");
        let mut login = SectionReader::new(sections, "login", problems);
        let attempts = AttemptLimits {
            per_user: read_limit(&mut login, "failures_per_user"),
            lockout: login.seconds("lockout"),
            per_source: read_limit(&mut login, "attempts_per_source"),
        };
        // Half of the cores, so that the other half answers requests. At most four threads,
        // because each needs 64 MiB.
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self {
            passwords,
            session,
            session_max,
            token_retention,
            attempts,
            hashing_threads: login
                .optional_number("hashing_threads")
                .unwrap_or_else(|| (cores / 2).clamp(1, 4)),
            waiting: login.number("waiting"),
        }
    }
}

/// Reads `login_session_max`. By its default, sessions that never expire stay unlimited.
fn read_session_max(server: &mut SectionReader<'_>, session: u32) -> Option<NonZeroU32> {
    const OPTION: &str = "login_session_max";
    let is_written = server.given(OPTION).is_some();
    NonZeroU32::new(server.number(OPTION)).filter(|_| session > 0 || is_written)
}

fn read_limit(reader: &mut SectionReader<'_>, option: &str) -> Option<NonZeroU32> {
    reader.number_or_off(option).and_then(NonZeroU32::new)
}
