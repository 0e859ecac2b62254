//! `countersign config`: validation and summary of the configuration, and its reference.

use std::io::{self, Write as _};

use countersign_engine::rotation::Cause;

use http::HeaderName;

use super::{CommandError, ConfigSource, print};
use crate::{
    api::settings::ApiSettings,
    auth::credential::CredentialPlaces,
    authorization::{
        AuthorizationProvider, ListenerAccess,
        routes::{RoutePattern, RouteTable},
    },
    base::route::Serves,
    client::{ClientSettings, original_request::Dialect},
    config::{
        Config, Listener, OpenIdProvider, Severity, Transport, WebUi,
        options::{self, IDENTITIES_SECTION},
        reference,
    },
    keys::{
        IssuerSection,
        administration::changing_line,
        fetch::Fetcher,
        settings::{KeyLocation, KeySource},
    },
    tls::settings::ClientCertificates,
};

pub(super) fn run(source: &ConfigSource) -> Result<(), CommandError> {
    let config = source.load()?;
    print("The configuration is valid.")?;
    for severity in [Severity::Risk, Severity::Note] {
        for remark in config.remarks.of(severity) {
            print(format_args!("{severity}: {remark}"))?;
        }
    }
    let server = &config.settings;
    for listener in &server.listeners {
        describe_listener(listener)?;
    }
    print(format_args!("  takes tokens from {}", describe_credentials(&server.auth.credentials)))?;
    for (claim, name) in server.auth.identity_headers.claims.exported() {
        print(format_args!("  passes on the claim {claim} as {name}"))?;
    }
    if let Some(tenancy) = &server.auth.tenancy {
        print(format_args!("  {tenancy}"))?;
    }
    if let Some(resource) = &server.auth.resource {
        print(format_args!("  publishes the metadata of the resource {}", resource.identifier))?;
    }
    print(format_args!("  /api/v2 {}", describe_api(&server.api)))?;
    describe_routes(&server.auth.authorization.routes)?;
    if config.issuers.is_empty() {
        print("  no auth_jwt_* section: the server refuses every token")?;
    }
    for section in &config.issuers {
        print(format_args!("  [{}] {}", section.section(), describe(section)))?;
        hint_at_audience(section)?;
        warn_of_file(section)?;
    }
    describe_administration(&config)?;
    if server.auth.api_clients.is_empty() {
        print("  no client may revoke tokens by request: [api_clients] is empty")?;
    }
    describe_console(&config.web_ui)?;
    for transport in config.transports.configured() {
        describe_transport(transport)?;
    }
    match source.revocation_location(&config) {
        Ok(location) => print(format_args!("  stores revocations in {location}"))?,
        Err(reason) => print(format_args!("  cannot revoke tokens: {reason}"))?,
    }
    Ok(())
}

/// Prints the reference, or one section of it.
pub(super) fn print_reference(section: Option<&str>) -> Result<(), CommandError> {
    let Some(name) = section else { return Ok(print(reference::reference().trim_end())?) };
    match options::section(name) {
        Some(section) => Ok(print(section.to_string().trim_end())?),
        None => {
            let names = options::SECTIONS.iter().map(|section| section.name);
            let help = match options::nearest(name, names.clone()) {
                Some(meant) => format!("did you mean {meant}?"),
                None => format!("the sections are: {}", names.collect::<Vec<_>>().join(", ")),
            };
            Err(CommandError::failed(format_args!("unknown section {name}\n  help: {help}")))
        }
    }
}

fn describe_credentials(places: &CredentialPlaces) -> String {
    let headers: Vec<_> = places.headers().iter().map(HeaderName::as_str).collect();
    let headers = match headers.as_slice() {
        [] => String::new(),
        headers => format!(" and, first, from {}", headers.join(", ")),
    };
    let cookie = places.cookie().map_or_else(String::new, |name| {
        format!(", and from the cookie {name} of requests that no other site can have caused")
    });
    format!("Authorization: Bearer{headers}{cookie}")
}

fn describe_console(web_ui: &WebUi) -> io::Result<()> {
    let Some(OpenIdProvider { authority, client_id, scope, .. }) = &web_ui.provider else {
        return Ok(());
    };
    if web_ui.has_passwords_only() {
        return print(format_args!(
            "  the web console logs in with a local password, and not at {authority}: auth_method \
             is database"
        ));
    }
    let fallback = if web_ui.local_fallback { ", or with a local password" } else { "" };
    print(format_args!(
        "  the web console logs in at {authority} as {client_id} with scope {scope}{fallback}"
    ))
}

/// Prints the rules, in the order in which they are asked.
fn describe_routes(routes: &RouteTable) -> io::Result<()> {
    if routes.rules().is_empty() {
        return Ok(());
    }
    print("  routes, of which the first that matches a request decides:")?;
    let others = if routes.allows_others() { "any valid token" } else { "no request" };
    let rows = routes
        .rules()
        .iter()
        .map(|rule| (format!("[{}]", rule.name), rule.pattern_list(), rule.access()));
    let last = ("otherwise".to_owned(), String::new(), others.to_owned());
    let rows: Vec<_> = rows.chain([last]).collect();
    let width = |of: fn(&(String, String, String)) -> &String| {
        rows.iter().map(|row| of(row).chars().count()).max().unwrap_or(0)
    };
    let (names, patterns) = (width(|row| &row.0), width(|row| &row.1));
    rows.iter().try_for_each(|(name, pattern, access)| {
        print(format_args!("    {name:names$}  {pattern:patterns$}  allows {access}"))
    })
}

/// Prints whose tokens may administer, why, and the line that would change it.
fn describe_administration(config: &Config) -> io::Result<()> {
    if !config.settings.api.issues_tokens() {
        return Ok(());
    }
    print("  who may change users, roles and environments, and issue tokens:")?;
    // Machine identities administer each other by their role, and nothing else.
    let may_administer = config.issuers.iter().filter(|one| one.section() != IDENTITIES_SECTION);
    for section in may_administer {
        print(format_args!(
            "    tokens of [{}]: {}; change it with {}",
            section.section(),
            section.administration,
            changing_line(section)
        ))?;
    }
    if config.settings.api.authorization_provider == AuthorizationProvider::Legacy {
        print(
            "    these tokens need no role: authorization_provider = policy-engine asks for one",
        )?;
    }
    Ok(())
}

fn describe_transport(transport: &Transport) -> io::Result<()> {
    let Transport { section, authorities, token, .. } = transport;
    let token = if token.is_some() { "with a token" } else { "without a token" };
    let trust = match authorities {
        Some(file) if transport.ssl => format!(", trusting {}", file.display()),
        _ => String::new(),
    };
    print(format_args!("  [{section}] connects to {} {token}{trust}", transport.origin()))
}

fn describe_listener(listener: &Listener) -> io::Result<()> {
    let Listener {
        name,
        addresses,
        tls,
        protocols,
        serves,
        profile,
        client: ClientSettings { proxies, dialect, certificate_header, allows_preflights },
        proxy_protocol,
        access,
        ..
    } = listener;
    let addresses: Vec<_> =
        addresses.iter().map(|address| address.url(listener.scheme())).collect();
    let addresses = addresses.join(" and ");
    if *serves == Serves::Operations {
        return print(format_args!("  listener {name}: {addresses}, for metrics and probes"));
    }
    let what = match *serves {
        _ if protocols.spop => ", for checks of HAProxy; it",
        Serves::Auth => ", with /auth and probes only; /auth",
        _ => "; /auth",
    };
    print(format_args!(
        "  listener {name}: {addresses}{what} answers as the {} surface",
        profile.name()
    ))?;
    if let Some(tls) = tls {
        describe_clients(&tls.files().clients)?;
    }
    if let Some(access) = access {
        describe_access(access)?;
    }
    let trusted = proxies.trusted().join(" or ");
    if trusted.is_empty() {
        return Ok(());
    }
    print(format_args!(
        "    takes a client's address from {} if {trusted} sets it",
        proxies.header()
    ))?;
    if let Some(header) = certificate_header {
        print(format_args!(
            "    takes a client's certificate from {} if they set it",
            header.name
        ))?;
    }
    if *dialect != Dialect::None {
        print(format_args!(
            "    takes the original request from their headers in the {} dialect",
            dialect.name()
        ))?;
    }
    if *allows_preflights {
        print("    allows CORS preflights without a token")?;
    }
    if *proxy_protocol {
        print("    expects a PROXY protocol header of version 1 or 2 from them")?;
    }
    Ok(())
}

fn describe_access(access: &ListenerAccess) -> io::Result<()> {
    if access.provider != AuthorizationProvider::None {
        print(format_args!("    authorizes requests by {}", access.provider.name()))?;
    }
    let open: Vec<_> = access.open_paths.patterns().iter().map(RoutePattern::to_string).collect();
    if !open.is_empty() {
        print(format_args!("    needs no token for GET and HEAD of {}", open.join(", ")))?;
    }
    Ok(())
}

fn describe_clients(clients: &ClientCertificates) -> io::Result<()> {
    if *clients == ClientCertificates::Possession {
        return print(format_args!(
            "    accepts client certificates by any authority, for logins of machine identities"
        ));
    }
    let (ClientCertificates::Optional(authorities) | ClientCertificates::Required(authorities)) =
        clients
    else {
        return Ok(());
    };
    let demand =
        if matches!(clients, ClientCertificates::Required(_)) { "requires" } else { "accepts" };
    let revoked = match authorities.revoked.len() {
        0 => "no revocation lists".into(),
        _ => format!(
            "revocation lists {}",
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

/// Prints a hint about `audience` for Entra ID. Depending on the registration of the
/// application, its version 2 puts the bare client id into `aud`. This is not a warning,
/// because Inmanta's guide uses this form and it works for other registrations.
fn hint_at_audience(section: &IssuerSection) -> io::Result<()> {
    let (issuer, audiences) = (&section.issuer.name, &section.issuer.rules.audience.accepted);
    let is_version_2 = issuer.starts_with("https://login.microsoftonline.com/")
        && issuer.trim_end_matches('/').ends_with("/v2.0");
    let bare = audiences.iter().find_map(|audience| audience.strip_prefix("api://"));
    let Some(client_id) =
        bare.filter(|id| is_version_2 && !audiences.iter().any(|one| **one == **id))
    else {
        return Ok(());
    };
    print(format_args!(
        "    if countersign token inspect shows aud = {client_id} (the bare client id), add that \
         to audience"
    ))
}

/// Warns about a key file that yields no keys now. A missing file is not an error, because
/// the server reads it when it appears.
fn warn_of_file(section: &IssuerSection) -> io::Result<()> {
    let KeySource::Refreshed(source) = &section.keys else { return Ok(()) };
    if let KeyLocation::File { .. } = source.location
        && let Err(error) = Fetcher::new(section, source).fetch(Cause::Start)
    {
        let (section, location) = (section.section(), &source.location);
        writeln!(
            io::stderr(),
            "warning: [{section}]: no keys from {location} yet: {}",
            error.text
        )?;
    }
    Ok(())
}

fn describe_api(api: &ApiSettings) -> &'static str {
    match (api.requires_token, api.signing.is_some()) {
        (false, _) => "does not require tokens",
        (true, true) => "requires tokens",
        (true, false) => "answers health checks only: it issues no tokens",
    }
}

fn describe(section: &IssuerSection) -> String {
    let issuer = &section.issuer;
    let algorithms: Vec<_> = issuer.algorithms.iter().map(|one| one.name()).collect();
    let types: Vec<_> = section.client_types.iter().map(|one| one.name()).collect();
    let takes_any = types.is_empty() && issuer.rules.client_types.allowed.is_none();
    let types = if takes_any { "any client type".into() } else { types.join(", ") };
    let role = if section.sign { "signs and accepts" } else { "accepts" };
    let keys = match &section.keys {
        KeySource::Secret(keys) if keys.all().len() == 1 => "a shared key".into(),
        KeySource::Secret(keys) => format!("{} shared keys", keys.all().len()),
        KeySource::Static(keys) if keys.len() == 1 => "1 static key".into(),
        KeySource::Static(keys) => format!("{} static keys", keys.len()),
        KeySource::Refreshed(source) => format!("keys from {}", source.location),
    };
    format!(
        "{role} {} tokens of {} for {} ({types}), with {keys}",
        algorithms.join("/"),
        issuer.names().collect::<Vec<_>>().join(" or "),
        issuer.rules.audience.accepted.join(if issuer.rules.audience.all {
            " and "
        } else {
            " or "
        }),
    )
}
