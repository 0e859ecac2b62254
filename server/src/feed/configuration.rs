//! The configurations of the server and of a tier, compared by digests of their sections.
//!
//! They may differ on purpose, as that of a proxy with fewer issuers does. So a tier reports
//! differences, and continues.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use crate::{base::printable::printable, config::options::ROUTE_PREFIX};

/// Digests of the sections that decide about requests, in the order of the sections. They contain
/// no secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SectionDigests(pub Vec<SectionDigest>);

/// The digest of a section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SectionDigest {
    /// The name of the section.
    pub section: String,
    /// The digest of its options as they are meant, in hexadecimal.
    pub digest: String,
}

/// How the configuration of the server differs from that of another process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigDifference {
    /// Sections that both have, with other contents.
    changed: Vec<String>,
    /// Sections that only the server has.
    of_server: Vec<String>,
    /// Sections that only the other process has.
    of_other: Vec<String>,
    /// Whether the rules by route that both have are in another order.
    is_reordered: bool,
}

impl SectionDigests {
    /// Returns how the configuration of the server differs from this one; `None` if it does not.
    #[must_use]
    pub fn difference(&self, server: &Self) -> Option<ConfigDifference> {
        let (own, other) = (self.names(), server.names());
        let is_changed = |one: &&SectionDigest| {
            let same_name = |other: &&SectionDigest| other.section == one.section;
            server.0.iter().find(same_name).is_some_and(|other| other.digest != one.digest)
        };
        let routes = |of: &Self, among: &BTreeSet<&str>| {
            let names = of.0.iter().map(|one| one.section.clone());
            let is_common =
                |name: &String| name.starts_with(ROUTE_PREFIX) && among.contains(&**name);
            names.filter(is_common).collect::<Vec<_>>()
        };
        let difference = ConfigDifference {
            changed: self.0.iter().filter(is_changed).map(|one| one.section.clone()).collect(),
            of_server: other.difference(&own).map(|name| (*name).to_owned()).collect(),
            of_other: own.difference(&other).map(|name| (*name).to_owned()).collect(),
            is_reordered: routes(self, &other) != routes(server, &own),
        };
        (!difference.is_empty()).then_some(difference)
    }

    /// Takes the digest of a section from `before`, because a change of it needs a restart.
    pub fn keep(&mut self, section: &str, before: &Self) {
        let of_before = before.0.iter().find(|one| one.section == section);
        let own = self.0.iter_mut().find(|one| one.section == section);
        if let (Some(own), Some(of_before)) = (own, of_before) {
            own.digest.clone_from(&of_before.digest);
        }
    }

    fn names(&self) -> BTreeSet<&str> {
        self.0.iter().map(|one| &*one.section).collect()
    }
}

impl ConfigDifference {
    fn is_empty(&self) -> bool {
        let Self { changed, of_server, of_other, is_reordered } = self;
        changed.is_empty() && of_server.is_empty() && of_other.is_empty() && !is_reordered
    }
}

impl fmt::Display for ConfigDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { changed, of_server, of_other, is_reordered } = self;
        let lists =
            [("different", changed), ("only of the server", of_server), ("only here", of_other)];
        let lists = lists.iter().filter(|(_, sections)| !sections.is_empty());
        let mut parts: Vec<_> =
            lists.map(|(what, sections)| format!("{what}: {}", listed(sections))).collect();
        if *is_reordered {
            parts.push(format!("in another order: the [{ROUTE_PREFIX}*] sections"));
        }
        f.write_str(&parts.join("; "))
    }
}

/// Returns the names of sections for a message, of which the first ones are enough to find a file
/// that differs.
fn listed(sections: &[String]) -> String {
    const MAX_SHOWN: usize = 8;
    let shown = sections.iter().take(MAX_SHOWN).map(|name| format!("[{}]", printable(name)));
    let shown = shown.collect::<Vec<_>>().join(", ");
    match sections.len().saturating_sub(MAX_SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digests(sections: &[(&str, &str)]) -> SectionDigests {
        let digest = |(section, digest): &(&str, &str)| SectionDigest {
            section: (*section).to_owned(),
            digest: (*digest).to_owned(),
        };
        SectionDigests(sections.iter().map(digest).collect())
    }

    fn text(own: &[(&str, &str)], server: &[(&str, &str)]) -> Option<String> {
        Some(digests(own).difference(&digests(server))?.to_string())
    }

    #[test]
    fn different_sections_are_named() {
        let own = [("auth_jwt_a", "1"), ("auth_jwt_b", "1"), ("limits", "1"), ("route_x", "1")];
        assert_eq!(text(&own, &own), None);
        let server = [("auth_jwt_a", "2"), ("auth_jwt_c", "1"), ("limits", "1"), ("route_x", "2")];
        let expected = "different: [auth_jwt_a], [route_x]; only of the server: [auth_jwt_c]; \
                        only here: [auth_jwt_b]";
        assert_eq!(text(&own, &server).unwrap(), expected);
    }

    #[test]
    fn order_of_routes_is_compared() {
        let own = [("auth_jwt_a", "1"), ("route_b", "1"), ("route_a", "1")];
        let server = [("route_a", "1"), ("route_b", "1"), ("auth_jwt_a", "1")];
        assert_eq!(text(&own, &server).unwrap(), "in another order: the [route_*] sections");
        // A route between them changes no order.
        let server = [("auth_jwt_a", "1"), ("route_b", "1"), ("route_c", "1"), ("route_a", "1")];
        assert_eq!(text(&own, &server).unwrap(), "only of the server: [route_c]");
    }

    #[test]
    fn many_different_sections_are_counted() {
        let names: Vec<_> = (0..20).map(|number| format!("auth_jwt_{number:02}")).collect();
        let own: Vec<_> = names.iter().map(|name| (&**name, "1")).collect();
        let text = text(&own, &[("\u{1b}[2J", "1")]).unwrap();
        assert!(text.starts_with("only of the server: [\\u{1b}[2J]; only here: [auth_jwt_00], "));
        assert!(text.ends_with("[auth_jwt_07] and 12 more"), "{text}");
    }
}
