//! `countersign config check`.

use std::io::{self, Write as _};

use countersign_engine::rotation::Cause;

use super::{CommandError, ConfigSource, print};
use crate::{
    config::{
        ClientCertificates, IssuerSection, KeyLocation, KeySource, Listener, OpenIdProvider,
        Serves, Transport, WebUi,
    },
    keysource::fetch::Fetcher,
    listen::origin::Dialect,
};

pub(super) fn run(place: &ConfigSource) -> Result<(), CommandError> {
    let config = place.load()?;
    print("The configuration is valid.")?;
    let server = &config.server;
    for listener in &server.listeners {
        describe_listener(listener)?;
    }
    match &server.additional_header {
        Some(name) => print(format_args!(
            "  takes tokens from Authorization: Bearer and, first, from {name}"
        ))?,
        None => print("  takes tokens from Authorization: Bearer")?,
    }
    print(format_args!("  /api/v2 {} tokens", demands(server.auth)))?;
    if config.issuers.is_empty() {
        print("  no auth_jwt_* section: every token will be refused")?;
    }
    for section in &config.issuers {
        print(format_args!("  [{}] {}", section.section(), describe(section)))?;
        hint_at_audience(section)?;
        warn_of_file(section)?;
    }
    if server.api_clients.is_empty() {
        print("  nobody may revoke tokens by request: there are no [api_clients]")?;
    }
    describe_console(&config.web_ui)?;
    for transport in config.transports.configured() {
        describe_transport(transport)?;
    }
    match place.revocation_file(&config) {
        Ok(file) => print(format_args!("  keeps revocations in {}", file.display()))?,
        Err(reason) => print(format_args!("  cannot revoke tokens: {reason}"))?,
    }
    Ok(())
}

fn describe_console(web_ui: &WebUi) -> io::Result<()> {
    let Some(OpenIdProvider { authority, client_id, scope }) = &web_ui.provider else {
        return Ok(());
    };
    let fallback = if web_ui.local_fallback { ", or here" } else { "" };
    print(format_args!(
        "  the web console logs in at {authority} as {client_id} for {scope}{fallback}"
    ))
}

fn describe_transport(transport: &Transport) -> io::Result<()> {
    let Transport { section, authorities, token, .. } = transport;
    let token = if token.is_some() { "with a token" } else { "without a token" };
    let trust = match authorities {
        Some(file) if transport.ssl => format!(", trusting {}", file.display()),
        _ => String::new(),
    };
    print(format_args!("  [{section}] reaches {} {token}{trust}", transport.origin()))
}

fn describe_listener(listener: &Listener) -> io::Result<()> {
    let Listener {
        name,
        addresses,
        tls,
        serves,
        profile,
        proxies,
        dialect,
        certificate_header,
        proxy_protocol,
        ..
    } = listener;
    let addresses: Vec<_> = addresses.iter().map(|place| place.url(listener.scheme())).collect();
    let addresses = addresses.join(" and ");
    if *serves == Serves::Operations {
        return print(format_args!("  listener {name}: {addresses}, for metrics and probes"));
    }
    let what = if *serves == Serves::Auth { ", with /auth and probes only" } else { "" };
    print(format_args!(
        "  listener {name}: {addresses}{what}; /auth answers as the {} surface",
        profile.name()
    ))?;
    if let Some(tls) = tls {
        describe_clients(&tls.files().clients)?;
    }
    let trusted = proxies.trusted().join(" or ");
    if trusted.is_empty() {
        return Ok(());
    }
    print(format_args!(
        "    takes a client's address from {}, if {trusted} says so",
        proxies.header()
    ))?;
    if let Some(header) = certificate_header {
        print(format_args!("    takes a client's certificate from {header}, if they say so"))?;
    }
    if *dialect != Dialect::None {
        print(format_args!(
            "    takes the original request from them in the {} dialect",
            dialect.name()
        ))?;
    }
    if *proxy_protocol {
        print("    expects a PROXY protocol header of version 2 from them")?;
    }
    Ok(())
}

fn describe_clients(clients: &ClientCertificates) -> io::Result<()> {
    let (ClientCertificates::Optional(authorities) | ClientCertificates::Required(authorities)) =
        clients
    else {
        return Ok(());
    };
    let demand =
        if matches!(clients, ClientCertificates::Required(_)) { "requires" } else { "accepts" };
    let revoked = match authorities.revoked.len() {
        0 => "none can be revoked".into(),
        _ => format!(
            "revoked by {}",
            authorities
                .revoked
                .iter()
                .map(|file| file.display().to_string())
                .collect::<Vec<_>>()
                .join(", ")
        ),
    };
    print(format_args!(
        "    {demand} client certificates by the authorities in {}; {revoked}",
        authorities.file.display()
    ))
}

/// Version 2 of Entra ID may put the bare client id into `aud`, as the application is
/// registered. No warning, as the guide has it so, and it works where it is registered so.
fn hint_at_audience(section: &IssuerSection) -> io::Result<()> {
    let (issuer, audience) = (&section.issuer.name, &section.issuer.rules.audience);
    let is_version_2 = issuer.starts_with("https://login.microsoftonline.com/")
        && issuer.trim_end_matches('/').ends_with("/v2.0");
    let Some(client_id) = audience.strip_prefix("api://").filter(|_| is_version_2) else {
        return Ok(());
    };
    print(format_args!(
        "    if its tokens have the bare client id as aud ({client_id}; countersign token inspect shows it), write that as audience"
    ))
}

/// A file can be looked at now. One that is not there yet is no mistake: the server
/// takes it up when it appears.
fn warn_of_file(section: &IssuerSection) -> io::Result<()> {
    let KeySource::Refreshed(source) = &section.keys else { return Ok(()) };
    if let KeyLocation::File { .. } = source.location
        && let Err(fault) = Fetcher::new(section, source).fetch(Cause::Start)
    {
        let (section, location) = (section.section(), &source.location);
        writeln!(
            io::stderr(),
            "warning: [{section}]: {location} gives no keys now: {}",
            fault.text
        )?;
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
        KeySource::Static(keys) if keys.len() == 1 => "a key written down".into(),
        KeySource::Static(keys) => format!("{} keys written down", keys.len()),
        KeySource::Refreshed(source) => format!("the keys of {}", source.location),
    };
    format!(
        "{role} {} tokens of {} for {} ({}), with {keys}",
        algorithms.join("/"),
        issuer.name,
        issuer.rules.audience,
        types.join(", ")
    )
}
