//! Comparison of the servers on one database by their digests, for `countersign doctor` and the
//! console.

use std::{collections::BTreeSet, mem};

use crate::{
    base::printable::printable,
    store::servers::{ConfigDigests, ServerRun},
};

/// The version of this program. Another version may compute digests differently.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Age of the last heartbeat above which a server counts as stopped.
pub const ACTIVE_WINDOW_SECONDS: u64 = 120;

/// Difference between servers, or between the servers and the local configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerDifference {
    /// The difference.
    pub text: String,
    /// What to do.
    pub help: String,
}

/// Returns the differences between servers of one version, and between them and the local
/// configuration.
#[must_use]
pub fn differences(servers: &[ServerRun], own: &ConfigDigests) -> Vec<ServerDifference> {
    let signer = ComparedPlace { place: "the section with sign = true", variables: OF_ISSUERS };
    let key = compare("the signing key", &signer, servers, own, |one| one.signing_key.as_ref());
    let key = key.or_else(|| compare_verified_keys(&signer, servers, own));
    let all = servers.iter().map(|server| &server.digests).chain([own]);
    let mut sections: Vec<_> = all.clone().flat_map(|one| one.sections.keys()).collect();
    sections.sort_unstable();
    sections.dedup();
    let of_section = |section: &String| {
        let name = format!("[{}]", printable(section));
        let place = ComparedPlace { place: &name, variables: OF_ISSUERS };
        compare(&name, &place, servers, own, |one| one.sections.get(section))
    };
    let of_api_key = |key: &String| {
        let name = format!("the API key {}", printable(key));
        compare(&name, &OF_API_KEYS, servers, own, |one| one.api_keys.get(key))
    };
    let sections = sections.into_iter().filter_map(of_section);
    let api_keys: BTreeSet<_> = all.flat_map(|one| one.api_keys.keys()).collect();
    let api_keys = api_keys.into_iter().filter_map(of_api_key);
    key.into_iter().chain(sections).chain(api_keys).collect()
}

/// Where an option is written that is compared.
struct ComparedPlace<'p> {
    place: &'p str,
    /// Its variables.
    variables: &'static str,
}

const OF_ISSUERS: &str = "INMANTA_AUTH_JWT_*";
const OF_API_KEYS: ComparedPlace<'_> =
    ComparedPlace { place: "[multi_tenancy]", variables: "AUTH_API_KEY" };

/// Compares the keys that verify tokens of the section that signs, as far as servers record them.
fn compare_verified_keys(
    signer: &ComparedPlace<'_>,
    servers: &[ServerRun],
    own: &ConfigDigests,
) -> Option<ServerDifference> {
    let has_keys = |server: &&ServerRun| !server.digests.verified_keys.is_empty();
    let servers: Vec<_> = servers.iter().filter(has_keys).cloned().collect();
    compare("the set of keys that verify own tokens", signer, &servers, own, |one| {
        Some(&one.verified_keys).filter(|keys| !keys.is_empty())
    })
}

/// Compares one digest. `what` names it.
fn compare<'s, T: PartialEq + 's>(
    what: &str,
    ComparedPlace { place, variables }: &ComparedPlace<'_>,
    servers: &'s [ServerRun],
    own: &'s ConfigDigests,
    of: impl Fn(&'s ConfigDigests) -> Option<&'s T>,
) -> Option<ServerDifference> {
    // A configuration without issuers and API keys is that of a client.
    let is_server = !own.sections.is_empty() || !own.api_keys.is_empty();
    let here = is_server.then(|| of(own));
    let groups = group(servers, &of);
    match &groups[..] {
        [] => None,
        [(one, _)] if here.is_none_or(|here| here == *one) => None,
        [(one, _)] => {
            let text = match (one, here.flatten()) {
                (None, _) => format!("{what} is configured here, but no server has it"),
                (_, None) => format!("the servers have {what}, but it is not configured here"),
                _ => format!("{what} differs between this configuration and the servers"),
            };
            let help = format!(
                "if {place} was changed, reload (SIGHUP) or restart the servers; otherwise \
                 correct it here"
            );
            Some(ServerDifference { text, help })
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
            let text =
                format!("{what} differs between servers: {}", sides.collect::<Vec<_>>().join("; "));
            let help = format!(
                "compare {place} in their configuration files, and {variables} in their \
                 environments, then reload (SIGHUP) or restart those that are wrong"
            );
            Some(ServerDifference { text, help })
        }
    }
}

/// Groups the names of the servers by digest, in the order of the servers.
fn group<'s, T: PartialEq + 's>(
    servers: &'s [ServerRun],
    of: impl Fn(&'s ConfigDigests) -> Option<&'s T>,
) -> Vec<(Option<&'s T>, Vec<String>)> {
    let mut groups: Vec<(Option<&T>, Vec<String>)> = Vec::new();
    for server in servers {
        let (one, name) = (of(&server.digests), printable(&server.name));
        match groups.iter_mut().find(|(other, _)| *other == one) {
            Some((_, names)) => names.push(name),
            None => groups.push((one, vec![name])),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use countersign_engine::UnixTime;

    use super::*;

    fn digests(key: &str, sections: &[(&str, &str)]) -> ConfigDigests {
        let owned = |(name, digest): &(&str, &str)| ((*name).to_owned(), (*digest).to_owned());
        let sections = sections.iter().map(owned).collect();
        ConfigDigests { sections, signing_key: Some(key.into()), ..ConfigDigests::default() }
    }

    fn server(name: &str, digests: ConfigDigests) -> ServerRun {
        let (started_at, seen_at) = (UnixTime(1), UnixTime(2));
        ServerRun {
            id: name.into(),
            name: name.into(),
            version: "1".into(),
            started_at,
            seen_at,
            digests,
        }
    }

    fn texts(servers: &[ServerRun], own: &ConfigDigests) -> Vec<String> {
        differences(servers, own).into_iter().map(|difference| difference.text).collect()
    }

    #[test]
    fn doctor_names_the_servers_that_differ() {
        let (x, y) = (digests("k", &[("a", "1")]), digests("l", &[("a", "2")]));
        let servers = [
            server("n1", x.clone()),
            server("n2", y),
            server("n3", x.clone()),
            server("n4", digests("k", &[])),
        ];
        let [key, section] = &texts(&servers, &digests("m", &[("a", "2")]))[..] else { panic!() };
        assert_eq!(
            key,
            "the signing key differs between servers: one on n1, n3, n4; another on n2"
        );
        assert_eq!(
            section,
            "[a] differs between servers: one on n1, n3; as configured here on n2; none on n4"
        );
        assert_eq!(texts(&servers[..1], &x), [""; 0]);
    }

    #[test]
    fn doctor_compares_the_local_configuration() {
        let servers = [server("n1", digests("k", &[("a", "1"), ("b", "1")]))];
        let own = digests("k", &[("a", "2"), ("c", "1")]);
        let expected = [
            "[a] differs between this configuration and the servers",
            "the servers have [b], but it is not configured here",
            "[c] is configured here, but no server has it",
        ];
        assert_eq!(texts(&servers, &own), expected);
        assert_eq!(
            texts(&servers, &ConfigDigests::default()),
            [""; 0],
            "a client has nothing to compare"
        );
    }

    #[test]
    fn doctor_compares_the_ids_of_api_keys() {
        let with = |keys: &[(&str, &str)]| {
            let owned = |(name, id): &(&str, &str)| ((*name).to_owned(), (*id).to_owned());
            ConfigDigests { api_keys: keys.iter().map(owned).collect(), ..digests("k", &[]) }
        };
        let servers = [server("n1", with(&[("a", "1"), ("b", "")])), server("n2", with(&[]))];
        let same = ["the API key a", "the API key b"]
            .map(|key| format!("{key} differs between servers: one on n1; none on n2"));
        assert_eq!(texts(&servers, &ConfigDigests::default()), same);
        let own = with(&[("a", "2"), ("b", "")]);
        let expected = "the API key a differs between this configuration and the servers";
        assert_eq!(texts(&servers[..1], &own), [expected]);
    }

    #[test]
    fn doctor_compares_the_keys_that_verify() {
        let with = |keys: &[&str]| {
            let verified_keys = keys.iter().map(|key| (*key).to_owned()).collect();
            ConfigDigests { verified_keys, ..digests("k", &[]) }
        };
        let servers = [server("n1", with(&["k", "next"])), server("n2", with(&["k"]))];
        let expected = "the set of keys that verify own tokens differs between servers: one on n1; \
                        another on n2";
        assert_eq!(texts(&servers, &ConfigDigests::default()), [expected]);
        let same = [server("n1", with(&["k", "next"]))];
        assert_eq!(texts(&same, &with(&["next", "k"])), [""; 0]);
    }

    #[test]
    fn doctor_escapes_names_of_other_servers() {
        let servers = [server("\u{1b}[2J", digests("k", &[])), server("n", digests("l", &[]))];
        assert!(
            texts(&servers, &ConfigDigests::default())[0]
                .contains("one on \\u{1b}[2J; another on n")
        );
    }
}
