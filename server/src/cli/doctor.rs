//! `countersign doctor`: checks that clients can connect as configured and that their
//! tokens are valid for them. Also checks that all servers on one database accept the same
//! tokens.

mod feed;
mod servers;

use std::{collections::BTreeSet, io, time::Duration};

use countersign_engine::{Reject, jws::UnverifiedToken};
use http::StatusCode;
use serde_json::Value;

use self::{feed::FeedCheck, servers::ServerComparison};
use super::{
    CommandError, ConfigSource,
    arguments::ServerArgs,
    client::{ApiCall, CallError, ServerClient},
    connection::{AddressSource, ServerConnection, TokenSource},
    known_databases::{KnownDatabases, UnexpectedDatabase},
    print, printable,
    token::load_keys,
};
use crate::{
    accounts::signing::{self, Lifetime, TokenRequest},
    api::settings::ISSUES_NOTHING,
    app::App,
    base::{
        claims::{CLIENT_TYPES_CLAIM, ClientType},
        clock::{self, distance},
    },
    config::BearerToken,
    keys::IssuerSection,
};

/// Remaining lifetime below which a token should be renewed.
const RENEWAL_WINDOW_SECONDS: u64 = 24 * 3600;
/// Time for which a call of the server is waited for, whatever its section has.
const MAX_WAIT: Duration = Duration::from_secs(4);

pub(super) fn run(source: &ConfigSource) -> Result<(), CommandError> {
    let mut config = source.load_for_client()?;
    // The check must not change the database.
    config.database.migrates = false;
    let servers = ServerComparison::of(source, &config)?;
    let known = KnownDatabases::of(source, &config)?;
    let feed = FeedCheck::start(source, &config)?;
    let mut connections: Vec<_> =
        config.transports.configured().cloned().map(ServerConnection::of_transport).collect();
    if connections.is_empty() {
        connections.push(
            ServerConnection::resolve_address(&config, &ServerArgs::default())?.with_token()?,
        );
    }
    let signer = config.settings.api.signing.clone().filter(|_| config.settings.api.requires_token);
    let has_tokens = connections.iter().any(|one| one.transport.token.is_some());
    let issuers = if config.issuers.is_empty() || !has_tokens {
        None
    } else {
        let revocations = source.revocation_service(&config, None)?;
        let app = App::new(config, 1, revocations, None)?;
        load_keys(&app)?;
        Some(app)
    };
    let (mut report, mut is_one_reached) = (DoctorReport::default(), false);
    for mut connection in connections {
        let timeout = connection.transport.timeout.unwrap_or(MAX_WAIT);
        connection.transport.timeout = Some(timeout.min(MAX_WAIT));
        let transport = &connection.transport;
        print(format_args!("{} {}", connection.label(), transport.origin()))?;
        // The server alone decides about the other tokens, such as those of short sessions.
        if let Some(token) = &transport.token
            && connection.token_source == TokenSource::Transport
        {
            check_token(token, transport.client_type, issuers.as_deref(), &mut report)?;
        }
        let works = check_server(&connection, &mut report)?;
        is_one_reached |= works;
        if let (true, Some(signer)) = (works, &signer) {
            check_signing_key(&connection, signer, &mut report)?;
        }
    }
    if let Some(servers) = servers {
        servers.check(is_one_reached, &mut report)?;
    }
    if let Some(known) = known {
        check_databases(&known, &mut report)?;
    }
    if let Some(feed) = feed {
        feed.finish(&mut report)?;
    }
    match report.wrong {
        0 => Ok(()),
        1 => Err(CommandError::failed("1 problem found")),
        count => Err(CommandError::failed(format_args!("{count} problems found"))),
    }
}

/// Checks that the databases have what the server knew when it last ran.
fn check_databases(known: &KnownDatabases, report: &mut DoctorReport) -> io::Result<()> {
    match known.check() {
        Ok(unexpected) => {
            for UnexpectedDatabase { text, help, .. } in unexpected {
                report.wrong(&text, &help)?;
            }
        }
        // The comparison of the servers has reported it, if the database is theirs.
        Err(error) => print(format_args!("  cannot compare the databases: {error}"))?,
    }
    Ok(())
}

/// Report of the checks, printed as they run.
#[derive(Default)]
struct DoctorReport {
    wrong: usize,
    /// Origins of servers that were silent, which are not waited for again.
    silent: BTreeSet<String>,
}

impl DoctorReport {
    fn ok(&self, text: &str) -> io::Result<()> {
        print(format_args!("  OK     {text}"))
    }

    fn wrong(&mut self, text: &str, help: &str) -> io::Result<()> {
        self.wrong += 1;
        print(format_args!("  WRONG  {text}"))?;
        if help.is_empty() { Ok(()) } else { print(format_args!("         help: {help}")) }
    }

    /// Reports a finding that may be intended, and is not counted.
    fn warn(&self, text: &str, help: &str) -> io::Result<()> {
        print(format_args!("  CHECK  {text}"))?;
        print(format_args!("         help: {help}"))
    }

    fn error(&mut self, what: &str, error: &CallError) -> io::Result<()> {
        self.wrong(&format!("{what}{}", error.text), &error.help)
    }
}

const NEW_TOKEN: &str = "create another with countersign client-config";

/// Checks the contents of a token, and whether the issuers configured here accept it.
fn check_token(
    token: &BearerToken,
    wanted: ClientType,
    issuers: Option<&App>,
    report: &mut DoctorReport,
) -> io::Result<()> {
    let token = token.expose().as_bytes();
    let claims = UnverifiedToken::decode(token)
        .ok()
        .and_then(|parts| serde_json::from_slice::<Value>(&parts.payload).ok());
    let Some(claims) = claims else {
        return report.wrong("the configured token is not a JWT", NEW_TOKEN);
    };
    let types = client_types(&claims[CLIENT_TYPES_CLAIM]);
    let shown = printable(&types.join(", "));
    if types.iter().any(|one| one == wanted.name()) {
        report.ok(&format!("the token is for client type {shown}"))?;
    } else {
        let text = format!("the token is for client type {shown}, but this section needs {wanted}");
        report.wrong(&text, NEW_TOKEN)?;
    }
    let now = clock::now();
    match claims["exp"].as_u64() {
        Some(end) if end <= now.0 => {
            report.wrong(&format!("the token expired {}", distance(end, now)), NEW_TOKEN)?
        }
        Some(end) if end - now.0 < RENEWAL_WINDOW_SECONDS => {
            report.wrong(
                &format!("the token expires {}", distance(end, now)),
                &format!("{NEW_TOKEN}; --expire sets its lifetime"),
            )?;
        }
        Some(end) => report.ok(&format!("the token expires {}", distance(end, now)))?,
        None => report.ok("the token never expires")?,
    }
    match issuers.map(|app| app.authenticator.verifier.verify(token, now)) {
        Some(Ok(verified)) => {
            report.ok(&format!("the token is valid for [{}]", verified.issuer().section))
        }
        // An expired token is already in the report.
        None | Some(Err(Reject::Expired)) => Ok(()),
        Some(Err(reject)) => report.wrong(
            &format!("the issuers configured here refuse the token: {reject}"),
            "check it with countersign token inspect",
        ),
    }
}

/// Returns the client types in a claim. The default is `api`.
fn client_types(claim: &Value) -> Vec<String> {
    match claim {
        Value::Null => vec![ClientType::Api.name().into()],
        Value::Array(types) => types.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        claim => {
            claim.as_str().unwrap_or_default().split(',').map(|one| one.trim().to_owned()).collect()
        }
    }
}

/// Checks that the server answers and accepts the token. Returns whether it verifies tokens.
fn check_server(connection: &ServerConnection, report: &mut DoctorReport) -> io::Result<bool> {
    let transport = &connection.transport;
    let client = match ServerClient::new(connection.clone()) {
        Ok(client) => client,
        Err(error) => return report.error("", &error).map(|()| false),
    };
    if report.silent.contains(&transport.origin()) {
        return report.wrong("the server does not answer, as above", "").map(|()| false);
    }
    if let Err(error) = client.call(health().anonymous()) {
        if error.is_timeout {
            report.silent.insert(transport.origin());
        }
        return report.error("", &error).map(|()| false);
    }
    report.ok(if transport.ssl {
        "the server answers, and its certificate is trusted"
    } else {
        "the server answers, without TLS"
    })?;
    match client.call(guarded().anonymous()) {
        Err(CallError { status: Some(StatusCode::UNAUTHORIZED), text, .. }) => {
            if text == ISSUES_NOTHING {
                return report
                    .ok("the server verifies tokens, and its API issues none")
                    .map(|()| false);
            }
        }
        _ => return report.ok("the server does not require a token").map(|()| false),
    }
    if transport.token.is_none() {
        let text = "the server requires a token, but the section has none";
        let help =
            format!("set token in [{}]; countersign client-config creates one", transport.section);
        match connection.address_source {
            AddressSource::Transport => report.wrong(text, &help)?,
            _ => report.wrong("the server requires a token", &connection.missing_token_help())?,
        }
        return Ok(true);
    }
    // Servers refuse an invalid token even on calls that need none.
    let refusal = |call| client.call(call).err().filter(|error| !is_about_this_call(error));
    if let Some(error) = refusal(health()) {
        report.error("the server refuses the token: ", &error)?;
    } else if let Some(error) = refusal(guarded()) {
        report.error("the server does not accept the token: ", &error)?;
    } else {
        report.ok("the server accepts the token")?;
    }
    Ok(true)
}

/// Checks that the server accepts tokens signed with the key configured here, as all
/// servers on one database must.
fn check_signing_key(
    connection: &ServerConnection,
    signer: &IssuerSection,
    report: &mut DoctorReport,
) -> io::Result<()> {
    const LIFETIME: u32 = 60;
    let request = TokenRequest {
        client_types: signer.client_types.first().copied().into_iter().collect(),
        environment: None,
        custom_claims: Vec::new(),
        lifetime: Lifetime::Seconds(
            signer.issuer.rules.max_lifetime.unwrap_or(LIFETIME).min(LIFETIME).into(),
        ),
    };
    let Some(token) = signing::sign(signer, &request, clock::now())
        .ok()
        .and_then(|token| BearerToken::new(&token))
    else {
        return report.wrong(
            &format!("cannot sign a token with [{}]", signer.section()),
            "check the section with countersign config check",
        );
    };
    let mut connection = connection.clone();
    connection.transport.token = Some(token);
    let called = ServerClient::new(connection).and_then(|client| client.call(health()));
    match called.err().filter(|error| !is_about_this_call(error)) {
        None => report.ok(&format!("the server has the signing key of [{}]", signer.section())),
        Some(error) => {
            let text = format!(
                "the server does not accept the signing key of [{}]: {}",
                signer.section(),
                error.text
            );
            report.wrong(&text, "use the same auth_jwt_* sections on all servers of one database")
        }
    }
}

/// Whether the server accepted the token but not this call. Agents may make other calls. Inmanta's
/// server refuses tokens of agents and environments even on calls that need none.
fn is_about_this_call(error: &CallError) -> bool {
    const TEXTS: [&str; 4] = [
        "The authorization token is scoped to a specific environment.",
        "The authorization token is not valid for the requested environment.",
        "The authorization token does not have a valid client type for this call.",
        "Request is not allowed by the access policy.",
    ];
    error.status == Some(StatusCode::FORBIDDEN)
        && TEXTS.iter().any(|text| error.text.contains(text))
}

/// Returns a call that does not require a token.
fn health() -> ApiCall {
    ApiCall::get(&["health"])
}

/// Returns a call that requires a token.
fn guarded() -> ApiCall {
    ApiCall::get(&["environment"])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn client_types_are_parsed_as_by_servers() {
        assert_eq!(client_types(&json!("api, agent")), ["api", "agent"]);
        assert_eq!(client_types(&json!(["agent"])), ["agent"]);
        assert_eq!(client_types(&Value::Null), ["api"]);
    }
}
