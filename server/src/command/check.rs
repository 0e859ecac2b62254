//! `countersign config check`.

use super::{Failure, Place, print};
use crate::config::{IssuerSection, KeySource};

pub(super) fn run(place: &Place) -> Result<(), Failure> {
    let config = place.load()?;
    print("The configuration is valid.")?;
    let server = &config.server;
    let scheme = if server.tls.is_some() { "https" } else { "http" };
    for address in &server.addresses {
        print(format_args!("  listens on {scheme}://{address}, metrics on http://{}", server.metrics_address))?;
    }
    match &server.additional_header {
        Some(name) => print(format_args!("  takes tokens from Authorization: Bearer and, first, from {name}"))?,
        None => print("  takes tokens from Authorization: Bearer")?,
    }
    print(format_args!(
        "  /auth answers as the {} surface; /api/v2 {} tokens",
        server.auth_surface.name(),
        demands(server.auth)
    ))?;
    if config.issuers.is_empty() {
        print("  no auth_jwt_* section: every token will be refused")?;
    }
    for section in &config.issuers {
        print(format_args!("  [{}] {}", section.section(), describe(section)))?;
    }
    Ok(())
}

fn demands(auth: bool) -> &'static str {
    if auth { "demands" } else { "does not demand" }
}

fn describe(section: &IssuerSection) -> String {
    let issuer = &section.issuer;
    let algorithms: Vec<_> = issuer.algorithms.iter().map(|one| one.name()).collect();
    let types: Vec<_> = section.client_types.iter().map(|one| one.name()).collect();
    let role = if section.sign { "signs and accepts" } else { "accepts" };
    let keys = match &section.keys {
        KeySource::Secret(_) => "a shared key".into(),
        KeySource::Written(keys) if keys.len() == 1 => "a key written down".into(),
        KeySource::Written(keys) => format!("{} keys written down", keys.len()),
        KeySource::Renewed(source) => format!("the keys of {}", source.location),
    };
    format!(
        "{role} {} tokens of {} for {} ({}), with {keys}",
        algorithms.join("/"),
        issuer.name,
        issuer.rules.audience,
        types.join(", ")
    )
}
