//! Notes and warnings about combinations of options that are valid, but have consequences to know
//! about.

use std::collections::BTreeMap;

use super::{
    Listener, Settings,
    options::ISSUER_PREFIX,
    problem::{Problem, Problems},
    reader::SectionReader,
    setting::Section,
};
use crate::{
    api::settings::{ISSUES_NOTHING, OPEN_API},
    auth::profile::Profile,
    authorization::{
        AuthorizationProvider,
        routes::{RequirementKind, RouteRule},
    },
    base::{redacted::shown, route::Serves, uri::differ_by_slash},
    keys::IssuerSection,
};

pub(super) fn add(
    sections: &BTreeMap<String, Section>,
    settings: &Settings,
    issuers: &[IssuerSection],
    problems: &mut Problems,
) {
    warn_of_open_api(sections, settings, problems);
    note_missing_signer(settings, issuers, problems);
    note_foreign_issuers(sections, settings, issuers, problems);
    note_shared_usernames(sections, issuers, problems);
    warn_of_unused_routes(sections, settings, problems);
    warn_of_tenants_elsewhere(sections, settings, problems);
    warn_of_undescribed_requests(sections, settings, problems);
    warn_of_header_of_a_proxy(sections, settings, problems);
    warn_of_cookie_without_method(sections, settings, problems);
    warn_of_missing_slash(sections, issuers, problems);
    note_unread_certificates(sections, settings, problems);
}

/// Warns about an API that requires no token.
fn warn_of_open_api(
    sections: &BTreeMap<String, Section>,
    settings: &Settings,
    problems: &mut Problems,
) {
    if !settings.api.requires_token {
        let help = "remove the line to require a token";
        SectionReader::new(sections, "server", problems).risk("auth", OPEN_API, help);
    }
}

/// Notes that no section signs. A section with an error may be the one that does.
fn note_missing_signer(settings: &Settings, issuers: &[IssuerSection], problems: &mut Problems) {
    if settings.api.signing.is_none() && !issuers.is_empty() && !problems.has_errors() {
        let help = "to issue tokens, set sign = true in a section whose algorithm is HS256";
        problems.push(Problem::note("auth_jwt_*", ISSUES_NOTHING).help(help));
    }
}

/// Notes that the legacy provider ignores the roles of those that may administer.
fn note_foreign_issuers(
    sections: &BTreeMap<String, Section>,
    settings: &Settings,
    issuers: &[IssuerSection],
    problems: &mut Problems,
) {
    let others = issuers.iter().filter(|one| !one.sign && one.administration.is_granted());
    let others: Vec<_> = others.map(|one| format!("[{}]", one.section())).collect();
    if settings.api.authorization_provider != AuthorizationProvider::Legacy || others.is_empty() {
        return;
    }
    let place = SectionReader::new(sections, "server", problems).place("authorization_provider");
    let text = format!(
        "authorization_provider is legacy, which ignores roles: tokens of {} may make every call \
         of /api/v2 that their client types allow",
        others.join(" and ")
    );
    let help = "write authorization_provider = policy-engine to let roles decide";
    problems.push(Problem::note(place, text).help(help));
}

/// Notes sections that can give the same username to different people.
fn note_shared_usernames(
    sections: &BTreeMap<String, Section>,
    issuers: &[IssuerSection],
    problems: &mut Problems,
) {
    let mut issuers: Vec<_> = issuers.iter().collect();
    issuers.sort_by_key(|section| !names_our_users(section));
    for (index, section) in issuers.iter().enumerate() {
        let earlier = issuers[..index].iter().filter(|other| can_share_username(section, other));
        let earlier: Vec<_> = earlier.map(|other| format!("[{}]", other.section())).collect();
        if names_our_users(section) || earlier.is_empty() {
            continue;
        }
        let name = section.section();
        let place = SectionReader::new(sections, name, problems).place("username_prefix");
        let text = format!(
            "[{name}] and {} can give the same username to different users",
            earlier.join(" and ")
        );
        let prefix = name.trim_start_matches(ISSUER_PREFIX);
        let help = format!("write username_prefix = {prefix}: in [{name}]");
        problems.push(Problem::note(place, text).help(help));
    }
}

/// Whether the users of a section are meant to be our own: those of the section that signs, and
/// those who log in to the web console.
fn names_our_users(section: &IssuerSection) -> bool {
    section.sign || section.administration.is_of_console()
}

/// Whether two sections can give the same username. Names of our own users count as different from
/// any with a prefix, because an administrator chooses them.
fn can_share_username(one: &IssuerSection, other: &IssuerSection) -> bool {
    let [one_prefix, other_prefix] =
        [one, other].map(|section| &*section.issuer.rules.username.prefix);
    if one.sign || other.sign {
        return one_prefix == other_prefix;
    }
    one_prefix.starts_with(other_prefix) || other_prefix.starts_with(one_prefix)
}

/// Warns about rules by route that no listener asks.
fn warn_of_unused_routes(
    sections: &BTreeMap<String, Section>,
    settings: &Settings,
    problems: &mut Problems,
) {
    let Some(rule) = settings.auth.authorization.routes.rules().first() else { return };
    if !settings.listeners.iter().any(asks_routes) {
        let text = "no listener has authorization = routes, so no route decides about a request";
        let help = "write authorization = routes in [listen] or [listener_<name>]";
        SectionReader::new(sections, &rule.name, problems).warn("", text, help);
    }
}

/// Warns about listeners that ask a rule with tenants, but know none.
fn warn_of_tenants_elsewhere(
    sections: &BTreeMap<String, Section>,
    settings: &Settings,
    problems: &mut Problems,
) {
    let has_tenants = |rule: &&RouteRule| {
        rule.requirements().iter().any(|one| one.kind == RequirementKind::Tenant)
    };
    let mut rules = settings.auth.authorization.routes.rules().iter();
    let Some(rule) = rules.find(has_tenants) else { return };
    for listener in settings.listeners.iter().filter(|listener| asks_routes(listener)) {
        if listener.profile != Profile::Orchestrate {
            let text = format!(
                "listener {} has no tenants, so it denies all requests of [{}]",
                listener.name, rule.name
            );
            let help = format!("write surface = orchestrate, or remove tenants in [{}]", rule.name);
            let mut reader = SectionReader::new(sections, listener.section(sections), problems);
            reader.warn("authorization", text, &help);
        }
    }
}

fn asks_routes(listener: &Listener) -> bool {
    let access = listener.access.as_ref();
    access.is_some_and(|access| access.provider == AuthorizationProvider::Routes)
}

/// Warns about listeners that authorize requests, but do not know those of checks. A module in a
/// proxy knows them: with a feed, which modules follow, these are notes.
fn warn_of_undescribed_requests(
    sections: &BTreeMap<String, Section>,
    settings: &Settings,
    problems: &mut Problems,
) {
    let has_modules = SectionReader::new(sections, "feed", problems).given("socket").is_some();
    let authorizes = |listener: &&Listener| {
        let access = listener.access.as_ref();
        access.is_some_and(|access| access.provider != AuthorizationProvider::None)
    };
    for listener in settings.listeners.iter().filter(authorizes) {
        let (name, client) = (&listener.name, &listener.client);
        let mut reader = SectionReader::new(sections, listener.section(sections), problems);
        let mut report = |text: String, help: &str| {
            let help = format!("{help}; a module in a proxy does not need it");
            if has_modules {
                reader.note("authorization", text, &help);
            } else {
                reader.risk("authorization", text, &help);
            }
        };
        if !client.proxies.trusts_any() {
            let text = format!(
                "listener {name} trusts no proxy to describe requests, so it denies all that are \
                 checked; only /v1/verify can describe one"
            );
            let help = "list the addresses of the proxies in trusted_proxies, and set dialect";
            report(text, help);
        } else if !listener.describes_requests() && listener.protocols.http2 {
            let text = format!(
                "listener {name} has no dialect, so it denies all requests that are checked over \
                 HTTP; only checks over gRPC describe one"
            );
            reader.note("authorization", text, "set dialect if proxies also ask over HTTP");
        } else if !listener.describes_requests() {
            let text = format!(
                "listener {name} has no dialect, so it denies all requests that are checked; only \
                 /v1/verify can describe one"
            );
            let help = "set dialect to the form in which the proxies name the request";
            report(text, help);
        }
    }
}

/// Warns about a header that a proxy adds to requests, while no proxy is trusted.
fn warn_of_header_of_a_proxy(
    sections: &BTreeMap<String, Section>,
    settings: &Settings,
    problems: &mut Problems,
) {
    let Some(header) = settings.auth.credentials.headers().first() else { return };
    if settings.listeners.iter().any(|listener| listener.client.proxies.trusts_any()) {
        return;
    }
    let text = format!(
        "a proxy seems to add {header} to requests, but trusted_proxies is empty: limits and logs \
         see the address of the proxy"
    );
    let help = "list the addresses of the proxy in trusted_proxies of [listen]";
    let mut reader = SectionReader::new(sections, "server", problems);
    reader.risk("auth_additional_header", text, help);
}

/// Warns about a token in a cookie where no proxy states the methods of requests over HTTP. A check
/// by GET can then be about a POST of another site, which only `Origin` and `Sec-Fetch-Site` reveal.
/// A gRPC Check states the method without a dialect.
fn warn_of_cookie_without_method(
    sections: &BTreeMap<String, Section>,
    settings: &Settings,
    problems: &mut Problems,
) {
    let is_check = |listener: &&Listener| listener.serves != Serves::Operations;
    let mut unstated =
        settings.listeners.iter().filter(is_check).filter(|listener| {
            !listener.client.proxies.trusts_any() || !listener.describes_requests()
        });
    let (Some(cookie), Some(listener)) = (settings.auth.credentials.cookie(), unstated.next())
    else {
        return;
    };
    let text = format!(
        "listener {} does not know the methods of requests with the cookie {} over HTTP: there, it \
         refuses those of other sites by Origin and Sec-Fetch-Site alone, also by GET",
        listener.name,
        shown(cookie)
    );
    let help = "set trusted_proxies, and dialect unless the proxies ask by gRPC only; let them pass \
                on Origin and Sec-Fetch-Site";
    SectionReader::new(sections, "server", problems).risk("token_cookie", text, help);
}

/// Warns about an issuer of Auth0 without its slash. Its tokens have one, and `iss` is compared
/// byte by byte. Other providers are not known by their names: the log reports them once their
/// discovery document is fetched.
fn warn_of_missing_slash(
    sections: &BTreeMap<String, Section>,
    issuers: &[IssuerSection],
    problems: &mut Problems,
) {
    for section in issuers {
        let name = &section.issuer.name;
        let Some(host) = name.strip_prefix("https://") else { continue };
        let accepts_slash = section.issuer.aliases.iter().any(|alias| differ_by_slash(name, alias));
        if !host.ends_with(".auth0.com") || accepts_slash {
            continue;
        }
        let text = format!(
            "the issuer (iss) of tokens of Auth0 ends with a slash: {name} differs only by the \
             trailing slash, so every token is refused"
        );
        let help = format!("write {name}/");
        SectionReader::new(sections, section.section(), problems).warn("issuer", text, &help);
    }
}

/// Notes listeners whose proxies pass on no certificate, while access tokens are bound to one.
fn note_unread_certificates(
    sections: &BTreeMap<String, Section>,
    settings: &Settings,
    problems: &mut Problems,
) {
    if !settings.api.identities.as_ref().is_some_and(|identities| identities.binds_certificates) {
        return;
    }
    let reads_none = |listener: &&Listener| {
        let client = &listener.client;
        listener.serves != Serves::Operations
            && client.proxies.trusts_any()
            && client.certificate_header.is_none()
    };
    for listener in settings.listeners.iter().filter(reads_none) {
        let text = format!(
            "listener {} has no client_certificate_header, so it refuses the tokens of \
             bind_certificates behind its proxies, except in checks over gRPC",
            listener.name
        );
        let help = "name the header in which the proxies pass on certificates";
        let mut reader = SectionReader::new(sections, listener.section(sections), problems);
        reader.note("client_certificate_header", text, help);
    }
}
