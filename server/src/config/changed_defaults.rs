//! Defaults that changed between versions, as far as a configuration relies on them. The first start
//! after an upgrade logs them.

use std::collections::BTreeMap;

use super::setting::Section;
use crate::{api::settings::ApiSettings, keys::IssuerSection};

/// Number of the present set of defaults. It rises with every changed default, and
/// `docs/upgrading.md` has them all.
pub const DEFAULTS_VERSION: u32 = 1;

/// Returns what changed for this configuration, each with the line that restores the former
/// behaviour.
pub(super) fn that_apply(
    sections: &BTreeMap<String, Section>,
    api: &ApiSettings,
    issuers: &[IssuerSection],
) -> Vec<String> {
    let is_unset = |section: &str, option: &str| {
        sections.get(section).is_none_or(|section| !section.settings.contains_key(option))
    };
    let mut changes = Vec::new();
    let mut add = |is_relevant: bool, section: &str, change: &str, (option, former)| {
        if is_relevant && is_unset(section, option) {
            changes.push(format!("{change} unless {option} = {former} is in [{section}]"));
        }
    };
    add(api.signing.is_some(), "server", "/api/v2 requires a token", ("auth", "false"));
    for issuer in issuers.iter().filter(|issuer| !issuer.sign) {
        let section = issuer.section();
        let is_barred = !issuer.administration.is_granted();
        add(is_barred, section, "its tokens may not administer", ("administers", "true"));
    }
    changes
}
