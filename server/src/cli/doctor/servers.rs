//! Comparison of the servers on one database with each other and with the local
//! configuration.

use std::{collections::BTreeMap, io};

use countersign_engine::UnixTime;

use super::DoctorReport;
use crate::{
    base::clock::{self, distance},
    cli::{CommandError, ConfigSource, print, printable},
    cluster::{
        comparison::{ACTIVE_WINDOW_SECONDS, ServerDifference, VERSION, differences},
        digest::config_digests,
    },
    config::Config,
    keys::{IssuerSection, secret_id::secret_id},
    store::{
        Store,
        servers::{ConfigDigests, ServerRun},
    },
};

/// Comparison of the servers on one database.
pub(super) struct ServerComparison {
    store: Store,
    /// [`ConfigDigests`] of the local configuration.
    own: ConfigDigests,
    /// The section that signs.
    signing: Option<IssuerSection>,
    /// Whether any keys are in files, which differ between servers and are not compared.
    has_key_files: bool,
    /// Whether the configuration sets the database, rather than a default.
    is_named: bool,
}

impl ServerComparison {
    /// Creates the comparison. `None` for the configuration of a client.
    pub(super) fn of(source: &ConfigSource, config: &Config) -> Result<Option<Self>, CommandError> {
        let is_named = config.database.is_configured;
        let is_servers = config.settings.api.issues_tokens();
        if !is_named && !is_servers {
            return Ok(None);
        }
        let store = match source.store(config) {
            Ok(store) => store,
            Err(reason) if is_named => return Err(reason.into()),
            // A user on a client machine may have no state directory.
            Err(_) => return Ok(None),
        };
        let api_keys = config.settings.auth.api_key_ids();
        let own = ConfigDigests { api_keys, ..config_digests(&config.issuers) };
        let has_key_files = config.issuers.iter().any(|section| section.keys.is_file());
        let signing = config.signing().cloned();
        Ok(Some(Self { store, own, signing, has_key_files, is_named }))
    }

    /// Compares the servers. `is_one_reached` is whether a server was reached that requires
    /// tokens.
    pub(super) fn check(&self, is_one_reached: bool, report: &mut DoctorReport) -> io::Result<()> {
        print(format_args!("[database] {}", self.store.location()))?;
        let now = clock::now();
        let seen = match self.store.exists() {
            Ok(true) => self.store.block_on(
                self.store
                    .servers_active_since(UnixTime(now.0.saturating_sub(ACTIVE_WINDOW_SECONDS))),
            ),
            Ok(false) => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        let servers = match seen {
            Ok(servers) => servers,
            // The default database is in a directory of the server's user.
            Err(error) if !self.is_named => {
                return print(format_args!("  cannot compare the servers: {error}"));
            }
            Err(error) => {
                return report.wrong(&error.to_string(), "use the same [database] as the servers");
            }
        };
        for ServerRun { name, version, started_at, digests, .. } in &servers {
            let (name, version) = (printable(name), printable(version));
            print(format_args!(
                "  {name}, version {version}, started {}",
                distance(started_at.0, now)
            ))?;
            if !digests.api_keys.is_empty() {
                print(format_args!("    API keys: {}", describe_keys(&digests.api_keys)))?;
            }
        }
        if servers.is_empty() {
            return self.report_none(is_one_reached, report);
        }
        // Another version may compute digests differently.
        let (servers, others): (Vec<_>, Vec<_>) =
            servers.into_iter().partition(|server| server.version == VERSION);
        if !others.is_empty() {
            print(format_args!("  this is version {VERSION}: other versions are not compared"))?;
        }
        let own = self.digests_in_force();
        let found = differences(&servers, &own);
        self.check_key_in_force(&servers, report)?;
        match servers.len() {
            0 => {}
            1 if own.sections.is_empty() => report.ok("1 server runs on this database")?,
            1 if found.is_empty() => {
                report.ok(
                    "1 server on this database runs the issuers and signing key configured here",
                )?;
            }
            1 => {}
            // The servers agree, whether or not they match the local configuration.
            count if differences(&servers, &ConfigDigests::default()).is_empty() => {
                report.ok(&format!(
                    "{count} servers on this database run the same issuers and signing key"
                ))?;
            }
            _ => {}
        }
        for ServerDifference { text, help } in &found {
            report.wrong(text, help)?;
        }
        if self.has_key_files {
            print("  the contents of key files were not compared")?;
        }
        Ok(())
    }

    /// Returns the digests of the local configuration, with the key in force as the one that signs.
    fn digests_in_force(&self) -> ConfigDigests {
        let mut own = self.own.clone();
        if let (Some(section), Some(key_id)) = (&self.signing, self.key_in_force())
            && let Some(secrets) = section.secrets()
        {
            secrets.choose(Some(&key_id));
            own.signing_key = secret_id(secrets.signer().expose());
        }
        own
    }

    /// Returns the id of the key in force; `None` without a rotation.
    fn key_in_force(&self) -> Option<String> {
        let section = self.signing.as_ref()?.section();
        // The query before has reported a database that fails.
        let key = self.store.block_on(self.store.key_in_force(section)).ok()?;
        key.map(|key| key.key_id)
    }

    /// Reports servers that sign with another key than the one in force.
    fn check_key_in_force(
        &self,
        servers: &[ServerRun],
        report: &mut DoctorReport,
    ) -> io::Result<()> {
        let Some(key_id) = self.key_in_force() else { return Ok(()) };
        let others = servers.iter().filter(|one| !one.digests.verified_keys.contains(&key_id));
        let names: Vec<_> = others.map(|server| printable(&server.name)).collect();
        if names.is_empty() {
            return Ok(());
        }
        let names = names.join(", ");
        report.wrong(
            &format!("the signing key in force ({key_id}) is not configured on {names}"),
            "add it there as next_key and reload, or put key in force with countersign keys rotate",
        )
    }

    /// Reports that the database has no active server. This is a problem if a server answers.
    fn report_none(&self, is_one_reached: bool, report: &mut DoctorReport) -> io::Result<()> {
        if is_one_reached && self.is_named {
            report.wrong(
                "a server requires tokens, but none has written to this database in the last 2 \
                 minutes",
                "use the same [database] on the servers, or check their logs for database errors",
            )
        } else {
            print("  no server has written to this database in the last 2 minutes")
        }
    }
}

fn describe_keys(keys: &BTreeMap<String, String>) -> String {
    let keys = keys.iter().map(|(name, id)| match &**id {
        "" => printable(name),
        id => format!("{} (id {})", printable(name), printable(id)),
    });
    keys.collect::<Vec<_>>().join(", ")
}
