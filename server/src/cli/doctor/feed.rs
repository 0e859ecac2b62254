//! Check of the feed: whether a tier would follow the server of this machine, and with which
//! differences.

use std::{
    io,
    thread::{self, JoinHandle},
};

use super::DoctorReport;
use crate::{
    cli::{ConfigSource, print},
    config::Config,
    feed::{
        TrustedOwners,
        configuration::SectionDigests,
        probe::{FeedReport, FileAccess, probe},
        settings::FeedSettings,
    },
};

/// A check of the feed, which runs in the background: a stopped server is waited for once.
pub(super) struct FeedCheck {
    settings: FeedSettings,
    /// Those of this configuration; `None` for that of a client.
    digests: Option<SectionDigests>,
    probe: JoinHandle<Result<FeedReport, String>>,
}

impl FeedCheck {
    /// Starts the check. `None` for a configuration without a feed.
    pub(super) fn start(source: &ConfigSource, config: &Config) -> io::Result<Option<Self>> {
        let Some(settings) = config.feed.clone() else { return Ok(None) };
        // A tier has one file, or a directory of them.
        let file = source.config.first().cloned().unwrap_or_default();
        let (probed, owners) = (settings.clone(), TrustedOwners::of_configuration(&file));
        let probe = thread::Builder::new().spawn(move || probe(&probed, owners))?;
        let digests = (!config.issuers.is_empty()).then(|| config.digests.clone());
        Ok(Some(Self { settings, digests, probe }))
    }

    /// Waits for its end, and reports.
    pub(super) fn finish(self, report: &mut DoctorReport) -> io::Result<()> {
        let Self { settings, digests, probe } = self;
        print(format_args!("[feed] {}", settings.socket.display()))?;
        let access = report_access(&settings, report)?;
        let probed =
            probe.join().unwrap_or_else(|_panic| Err("the check of the feed ended".into()));
        let FeedReport { user, configuration } = match probed {
            Ok(found) => found,
            Err(reason) => return report.wrong(&reason, ""),
        };
        report.ok(&format!(
            "the server has the feed for tiers in proxies, and tiers trust its user, {user}"
        ))?;
        if let Some(access) = access.filter(|access| access.user != user) {
            report.warn(
                &format!("user {user} serves the socket of user {}", access.user),
                "check that no other program has replaced the socket",
            )?;
        }
        let Some(digests) = digests else { return Ok(()) };
        match digests.difference(&configuration) {
            None => report.ok("the server has this configuration"),
            Some(difference) => report.warn(
                &format!("the server has another configuration: {difference}"),
                "unless that is intended, use the same files and environment for both, and reload \
                 both",
            ),
        }
    }
}

/// Prints owners and modes of the socket and its directory. Returns those of the socket.
fn report_access(settings: &FeedSettings, report: &DoctorReport) -> io::Result<Option<FileAccess>> {
    let socket = &settings.socket;
    if let Some(access) = socket.parent().and_then(|parent| FileAccess::of(parent).ok()) {
        print(format_args!("  directory: {access}"))?;
    }
    let access = FileAccess::of(socket).ok();
    if let Some(access) = access {
        print(format_args!("  socket: {access}"))?;
        if access.is_writable_by_all() {
            report.warn(
                "all users may connect to the socket, and take places of tiers",
                "set mode = 0660 in [feed], and group to the group of the proxy",
            )?;
        }
    }
    Ok(access)
}
