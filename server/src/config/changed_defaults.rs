//! Defaults that changed between versions, as far as a configuration relies on them. The first
//! start after an upgrade logs them.

use std::collections::BTreeMap;

use super::{options::LISTENER_PREFIX, setting::Section};
use crate::{
    api::settings::ApiSettings,
    keys::{IssuerSection, settings::KeySource},
};

/// Number of the present set of defaults. It rises with every changed default, and
/// `docs/upgrading.md` has them all.
pub const DEFAULTS_VERSION: u32 = 4;

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
    let is_bounded = api.issues_tokens() && api.login.session_max.is_some();
    let ends = "a session ends 12 hours after its login";
    add(is_bounded, "server", ends, ("login_session_max", "0"));
    let has_constraints = issuers.iter().any(|issuer| !issuer.issuer.rules.constraints.is_empty());
    let status = "/auth answers 403 to tokens that do not meet claims";
    add(has_constraints, "server", status, ("rejected_token_status", "401"));
    add(true, "limits", "the head of a request may have 65536 bytes", ("max_head", "32768"));
    add(true, "limits", "a request may have 200 header lines", ("max_header_lines", "100"));
    for (section, settings) in sections {
        let bind = settings.settings.get("bind").map_or("", |bind| &bind.text);
        let has_socket = section.starts_with(LISTENER_PREFIX) && bind.contains("unix:");
        let mode = "its Unix sockets have mode 0660, whatever the umask,";
        add(has_socket, section, mode, ("mode", "0755"));
    }
    for issuer in issuers.iter().filter(|issuer| !issuer.sign) {
        let (section, rules) = (issuer.section(), &issuer.issuer.rules);
        let is_barred = !issuer.administration.is_granted();
        add(is_barred, section, "its tokens may not administer", ("administers", "true"));
        let endless = "its tokens without exp are refused";
        add(rules.require_expiry, section, endless, ("require_exp", "false"));
        let clock = "its clock may differ by 30 seconds";
        add(rules.leeway > 0, section, clock, ("leeway", "0"));
        let unnamed = "its tokens without the username claim are refused";
        add(rules.username.required, section, unnamed, ("username_required", "false"));
        let is_published = matches!(issuer.keys, KeySource::Refreshed(_));
        add(is_published, section, "its tokens may omit their kid", ("kid", "required"));
        let bound = "its tokens with cnf are refused without a proof of possession";
        add(rules.verify_confirmation, section, bound, ("cnf", "ignore"));
    }
    changes
}
