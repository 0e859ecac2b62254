//! Whether the servers of one database accept the same tokens, and what is configured
//! here.

use std::{io, mem};

use countersign_engine::UnixTime;

use super::{DoctorReport, distance};
use crate::{
    clock,
    command::{CommandError, ConfigSource, print, printable},
    config::Config,
    fingerprint::{Fingerprint, Fingerprints},
    store::{Store, servers::ServerRun},
};

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// A server that was not seen for so long, in seconds, has most likely ended.
const ACTIVE_WINDOW_SECONDS: u64 = 120;

/// What the servers are compared with.
pub(super) struct ServerComparison {
    store: Store,
    /// What is configured here.
    own: Fingerprints,
    /// Whether keys are in files, of which each server has its own.
    has_key_files: bool,
    /// Whether the configuration says where the database is, rather than a default.
    is_named: bool,
}

impl ServerComparison {
    /// The servers of the database that is configured, if it is the configuration of one.
    pub(super) fn of(place: &ConfigSource, config: &Config) -> Result<Option<Self>, CommandError> {
        let is_named = config.database.is_configured;
        let is_servers = config.server.auth && !config.issuers.is_empty();
        if !is_named && !is_servers {
            return Ok(None);
        }
        let store = match place.store(config) {
            Ok(store) => store,
            Err(reason) if is_named => return Err(reason.into()),
            // Whoever asks from elsewhere has no state directory.
            Err(_) => return Ok(None),
        };
        let own = Fingerprints::of(&config.issuers)
            .map_err(|_| CommandError::failed("there is too little memory"))?;
        let has_key_files = config.issuers.iter().any(|section| section.keys.is_file());
        Ok(Some(Self { store, own, has_key_files, is_named }))
    }

    /// Compares them. One of them was reached and asks for tokens, or none.
    pub(super) fn check(&self, is_one_reached: bool, report: &mut DoctorReport) -> io::Result<()> {
        print(format_args!("[database] {}", self.store.location()))?;
        let now = clock::now();
        let seen = match self.store.exists() {
            Ok(true) => self.store.block_on(
                self.store
                    .servers_active_since(UnixTime(now.0.saturating_sub(ACTIVE_WINDOW_SECONDS))),
            ),
            Ok(false) => Ok(Vec::new()),
            Err(fault) => Err(fault),
        };
        let servers = match seen {
            Ok(servers) => servers,
            // By default it is in a directory of whoever runs the server.
            Err(fault) if !self.is_named => {
                return print(format_args!("  the servers cannot be compared: {fault}"));
            }
            Err(fault) => {
                return report.wrong(&fault.to_string(), "the servers need the same [database]");
            }
        };
        for ServerRun { name, version, started_at, .. } in &servers {
            let (name, version) = (printable(name), printable(version));
            print(format_args!(
                "  {name}, version {version}, started {}",
                distance(started_at.0, now)
            ))?;
        }
        if servers.is_empty() {
            return self.report_none(is_one_reached, report);
        }
        // What a digest is of may not be the same in another version.
        let (servers, others): (Vec<_>, Vec<_>) =
            servers.into_iter().partition(|server| server.version == VERSION);
        if !others.is_empty() {
            print(format_args!("  this is version {VERSION}: servers of others are not compared"))?;
        }
        let differences = differences(&servers, &self.own);
        match servers.len() {
            0 => {}
            1 if self.own.sections.is_empty() => report.ok("1 server runs on this database")?,
            1 if differences.is_empty() => {
                report.ok(
                    "1 server on this database runs the issuers and signing key configured here",
                )?;
            }
            1 => {}
            // Whatever is configured here.
            count if self::differences(&servers, &Fingerprints::default()).is_empty() => {
                report.ok(&format!(
                    "{count} servers on this database run the same issuers and signing key"
                ))?;
            }
            _ => {}
        }
        for Difference { text, help } in &differences {
            report.wrong(text, help)?;
        }
        if self.has_key_files {
            print("  what is in files of keys was not compared")?;
        }
        Ok(())
    }

    /// Where a server answers, it should be in the database; where none does, that is said
    /// already.
    fn report_none(&self, is_one_reached: bool, report: &mut DoctorReport) -> io::Result<()> {
        match is_one_reached && self.is_named {
            true => report.wrong(
                "a server asks for tokens, and none has written to this database in the last 2 minutes",
                "give the servers the same [database], or see in their logs whether they reach it",
            ),
            false => print("  no server has written to it in the last 2 minutes"),
        }
    }
}

/// Something in which servers, or they and what is configured here, differ.
#[derive(Debug)]
struct Difference {
    text: String,
    help: String,
}

/// In what servers differ, and in what all of them differ from here.
fn differences(servers: &[ServerRun], own: &Fingerprints) -> Vec<Difference> {
    let key = compare("the signing key", "the section with sign = true", servers, own, |one| {
        one.signing_key.as_ref()
    });
    let all = servers.iter().map(|server| &server.fingerprints).chain([own]);
    let mut sections: Vec<_> = all.flat_map(|one| one.sections.keys()).collect();
    sections.sort_unstable();
    sections.dedup();
    let of_section = |section: &String| {
        let name = format!("[{}]", printable(section));
        compare(&name, &name, servers, own, |one| one.sections.get(section))
    };
    key.into_iter().chain(sections.into_iter().filter_map(of_section)).collect()
}

/// Compares one thing, which stands in this place of a configuration.
fn compare<'s>(
    what: &str,
    place: &str,
    servers: &'s [ServerRun],
    own: &'s Fingerprints,
    of: impl Fn(&'s Fingerprints) -> Option<&'s Fingerprint>,
) -> Option<Difference> {
    // Who has no issuers at all only asks servers.
    let here = (!own.sections.is_empty()).then(|| of(own));
    let groups = group(servers, &of);
    match &groups[..] {
        [] => None,
        [(one, _)] if here.is_none_or(|here| here == *one) => None,
        [(one, _)] => {
            let text = match (one, here.flatten()) {
                (None, _) => format!("{what} is configured here, and no server has it"),
                (_, None) => format!("the servers have {what}, and it is not configured here"),
                _ => format!("{what} is configured here otherwise than the servers run it"),
            };
            let help = format!(
                "if {place} was changed, reload (SIGHUP) or restart the servers; if not, correct it here"
            );
            Some(Difference { text, help })
        }
        _ => {
            let mut article = "one on";
            let sides = groups.iter().map(|(one, names)| {
                let side = match one {
                    one if here == Some(*one) => "as configured here on",
                    None => "none on",
                    Some(_) => mem::replace(&mut article, "another on"),
                };
                format!("{side} {}", names.join(", "))
            });
            let text = format!(
                "{what} is not the same on all servers: {}",
                sides.collect::<Vec<_>>().join("; ")
            );
            let help = format!(
                "compare {place} in their configuration files, and INMANTA_AUTH_JWT_* in their environments, then reload \
                 (SIGHUP) or restart those that are wrong"
            );
            Some(Difference { text, help })
        }
    }
}

/// Who has the same, by what they have, in the order of the servers.
fn group<'s>(
    servers: &'s [ServerRun],
    of: impl Fn(&'s Fingerprints) -> Option<&'s Fingerprint>,
) -> Vec<(Option<&'s Fingerprint>, Vec<String>)> {
    let mut groups: Vec<(Option<&Fingerprint>, Vec<String>)> = Vec::new();
    for server in servers {
        let (one, name) = (of(&server.fingerprints), printable(&server.name));
        match groups.iter_mut().find(|(other, _)| *other == one) {
            Some((_, names)) => names.push(name),
            None => groups.push((one, vec![name])),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprints(key: &str, sections: &[(&str, &str)]) -> Fingerprints {
        let of = |text: &str| Fingerprint::new(text.to_owned());
        let sections = sections.iter().map(|(name, text)| ((*name).to_owned(), of(text))).collect();
        Fingerprints { sections, signing_key: Some(of(key)) }
    }

    fn server(name: &str, fingerprints: Fingerprints) -> ServerRun {
        let (started_at, seen_at) = (UnixTime(1), UnixTime(2));
        ServerRun {
            id: name.into(),
            name: name.into(),
            version: "1".into(),
            started_at,
            seen_at,
            fingerprints,
        }
    }

    fn texts(servers: &[ServerRun], own: &Fingerprints) -> Vec<String> {
        differences(servers, own).into_iter().map(|difference| difference.text).collect()
    }

    #[test]
    fn servers_that_differ_are_named_with_what_they_have() {
        let (x, y) = (fingerprints("k", &[("a", "1")]), fingerprints("l", &[("a", "2")]));
        let servers = [
            server("n1", x.clone()),
            server("n2", y),
            server("n3", x.clone()),
            server("n4", fingerprints("k", &[])),
        ];
        let [key, section] = &texts(&servers, &fingerprints("m", &[("a", "2")]))[..] else {
            panic!()
        };
        assert_eq!(
            key,
            "the signing key is not the same on all servers: one on n1, n3, n4; another on n2"
        );
        assert_eq!(
            section,
            "[a] is not the same on all servers: one on n1, n3; as configured here on n2; none on n4"
        );
        assert_eq!(texts(&servers[..1], &x), [""; 0]);
    }

    #[test]
    fn what_is_configured_here_is_compared_where_servers_agree() {
        let servers = [server("n1", fingerprints("k", &[("a", "1"), ("b", "1")]))];
        let own = fingerprints("k", &[("a", "2"), ("c", "1")]);
        let expected = [
            "[a] is configured here otherwise than the servers run it",
            "the servers have [b], and it is not configured here",
            "[c] is configured here, and no server has it",
        ];
        assert_eq!(texts(&servers, &own), expected);
        assert_eq!(
            texts(&servers, &Fingerprints::default()),
            [""; 0],
            "a client has nothing to compare"
        );
    }

    #[test]
    fn a_name_of_another_server_cannot_command_the_terminal() {
        let servers =
            [server("\u{1b}[2J", fingerprints("k", &[])), server("n", fingerprints("l", &[]))];
        assert!(
            texts(&servers, &Fingerprints::default())[0]
                .contains("one on \\u{1b}[2J; another on n")
        );
    }
}
