//! Constraints on names with a host: DNS names, e-mail addresses and URIs.

use super::Containment;

/// Whether a DNS name is within a constraint: `example.org` and the names below it, or with a
/// leading dot only the names below it. The empty constraint contains every name.
///
/// A wildcard name is within a constraint if all the names that it matches are. With
/// `partial_wildcards`, it is if one of them is.
pub(super) fn dns_is_within(name: &str, base: &str, partial_wildcards: bool) -> Containment {
    let (name, base) = (name.to_ascii_lowercase(), base.to_ascii_lowercase());
    let wildcard = name.strip_prefix("*.");
    let fixed = wildcard.unwrap_or(&name);
    if !is_host(fixed) {
        return None;
    }
    if base.is_empty() {
        return Some(true);
    }
    let (below, is_exact_included) = match base.strip_prefix('.') {
        Some(below) => (below, false),
        None => (base.as_str(), true),
    };
    let is_below =
        |name: &str| name.strip_suffix(below).is_some_and(|labels| labels.ends_with('.'));
    let is_same = fixed == below;
    Some(match wildcard {
        None => is_below(fixed) || (is_exact_included && is_same),
        // All names of `*.example.org` are below `example.org`.
        Some(_) if is_below(fixed) || is_same => true,
        // `*.example.org` matches `a.example.org`, and nothing below it.
        Some(_) => {
            partial_wildcards
                && is_exact_included
                && below.split_once('.').is_some_and(|(_, parent)| parent == fixed)
        }
    })
}

/// Whether an e-mail address is within a constraint: a mailbox, the mailboxes of a host, or with a
/// leading dot those of the hosts below a domain.
pub(super) fn email_is_within(name: &str, base: &str) -> Containment {
    let (mailbox, host) = name.rsplit_once('@')?;
    if !is_mailbox(mailbox) || !is_host(&host.to_ascii_lowercase()) {
        return None;
    }
    Some(match base.rsplit_once('@') {
        Some((base_mailbox, base_host)) => {
            mailbox == base_mailbox && host.eq_ignore_ascii_case(base_host)
        }
        None => host_is_within(host, base),
    })
}

/// Whether the host of a URI is within a constraint: a host, or with a leading dot the hosts below
/// a domain. A URI without a host that is a name cannot be compared.
pub(super) fn uri_is_within(name: &str, base: &str) -> Containment {
    if !is_uri_constraint(base) {
        return None;
    }
    Some(host_is_within(uri_host(name)?, base))
}

/// Whether a text may stand before the `@` of an e-mail address. Quoted mailboxes, which may
/// contain another `@`, are not compared.
fn is_mailbox(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_graphic() && !b"@\"\\".contains(&byte);
    !text.is_empty() && text.bytes().all(is_allowed)
}

/// Returns the host of a URI, if it is a name. Parsers differ about the authority of a URI with
/// backslashes or with characters that RFC 3986 does not allow, so these have none.
fn uri_host(uri: &str) -> Option<&str> {
    if !uri.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
        return None;
    }
    let (scheme, rest) = uri.split_once("://")?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.chars().all(|one| one.is_ascii_alphanumeric() || "+-.".contains(one));
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (host, port) = host.split_once(':').unwrap_or((host, ""));
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
    (is_scheme && is_port && is_host(&host.to_ascii_lowercase())).then_some(host)
}

fn host_is_within(host: &str, base: &str) -> bool {
    let (host, base) = (host.to_ascii_lowercase(), base.to_ascii_lowercase());
    if base.starts_with('.') { host.ends_with(&base) } else { host == base }
}

/// Whether a constraint for DNS names can be compared.
pub(super) fn is_dns_constraint(base: &str) -> bool {
    base.is_empty() || is_uri_constraint(base)
}

/// Whether a constraint for e-mail addresses can be compared.
pub(super) fn is_email_constraint(base: &str) -> bool {
    match base.rsplit_once('@') {
        Some((mailbox, host)) => is_mailbox(mailbox) && is_host(&host.to_ascii_lowercase()),
        None => is_uri_constraint(base),
    }
}

/// Whether a constraint for URIs is a host name, or one after a dot.
pub(super) fn is_uri_constraint(base: &str) -> bool {
    is_host(&base.strip_prefix('.').unwrap_or(base).to_ascii_lowercase())
}

/// Whether a text in lower case is the name of a host, and not an address. Underscores occur in the
/// trust domains of SPIFFE.
pub(in super::super) fn is_host(name: &str) -> bool {
    const MAX_NAME: usize = 253;
    const MAX_LABEL: usize = 63;
    let is_label = |label: &str| {
        let is_allowed = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_'
        };
        !label.is_empty()
            && label.len() <= MAX_LABEL
            && label.bytes().all(is_allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    name.len() <= MAX_NAME
        && name.split('.').all(is_label)
        && !name.rsplit('.').next().is_some_and(is_number)
}
