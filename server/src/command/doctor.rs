//! `countersign doctor`: whether clients reach the server as they are configured, and
//! whether their tokens are good for what they are for; and whether the servers of one
//! database accept the same.

mod servers;

use std::io;

use countersign_engine::{Reject, jws::UnverifiedToken};
use http::StatusCode;
use serde_json::Value;

use super::{
    CommandError, ConfigSource,
    client::{ApiCall, CallError, ServerClient},
    print, printable,
    token::{inspect::distance, load_keys},
};
use crate::{
    app::App,
    clock,
    config::{BearerToken, ClientType, IssuerSection, Transport},
    issue::{self, Lifetime, TokenRequest},
    surface::inmanta::CLIENT_TYPES_CLAIM,
};
use servers::ServerComparison;

/// A token that lives no longer than this, in seconds, is to be renewed now.
const RENEWAL_WINDOW_SECONDS: u64 = 24 * 3600;

pub(super) fn run(place: &ConfigSource) -> Result<(), CommandError> {
    let mut config = place.load_for_client()?;
    // Whoever looks changes nothing.
    config.database.migrates = false;
    let servers = ServerComparison::of(place, &config)?;
    let mut transports: Vec<_> = config.transports.configured().cloned().collect();
    if transports.is_empty() {
        // What the command line does without one.
        transports.push(config.transports.cmdline.clone());
    }
    let signer = config.server.signing.clone().filter(|_| config.server.auth);
    let issuers = match config.issuers.is_empty()
        || transports.iter().all(|transport| transport.token.is_none())
    {
        true => None,
        false => {
            let revocations = place.revocation_service(&config, None)?;
            let app = App::new(config, 1, revocations, None)?;
            load_keys(&app);
            Some(app)
        }
    };
    let (mut report, mut is_one_reached) = (DoctorReport { wrong: 0 }, false);
    for transport in transports {
        print(format_args!("[{}] {}", transport.section, transport.origin()))?;
        if let Some(token) = &transport.token {
            check_token(token, transport.client_type, issuers.as_deref(), &mut report)?;
        }
        let works = check_server(&transport, &mut report)?;
        is_one_reached |= works;
        if let (true, Some(signer)) = (works, &signer) {
            check_signing_key(&transport, signer, &mut report)?;
        }
    }
    if let Some(servers) = servers {
        servers.check(is_one_reached, &mut report)?;
    }
    match report.wrong {
        0 => Ok(()),
        1 => Err(CommandError::failed("one thing is wrong")),
        count => Err(CommandError::failed(format_args!("{count} things are wrong"))),
    }
}

/// What was found, told as it is found.
struct DoctorReport {
    wrong: usize,
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

    fn fault(&mut self, what: &str, fault: &CallError) -> io::Result<()> {
        self.wrong(&format!("{what}{}", fault.text), &fault.help)
    }
}

const ANOTHER: &str = "countersign client-config makes another";

/// What a token says, and whether the issuers that are configured here believe it.
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
        return report.wrong("the token is none: it cannot be read", ANOTHER);
    };
    let types = client_types(&claims[CLIENT_TYPES_CLAIM]);
    match types.iter().any(|one| one == wanted.name()) {
        true => report.ok(&format!("the token is for {}", printable(&types.join(", "))))?,
        false => {
            let text = format!(
                "the token is for {}, and this section's clients are {wanted}",
                printable(&types.join(", "))
            );
            report.wrong(&text, ANOTHER)?;
        }
    }
    let now = clock::now();
    match claims["exp"].as_u64() {
        Some(end) if end <= now.0 => {
            report.wrong(&format!("the token expired {}", distance(end, now)), ANOTHER)?
        }
        Some(end) if end - now.0 < RENEWAL_WINDOW_SECONDS => {
            report.wrong(
                &format!("the token expires {}", distance(end, now)),
                &format!("{ANOTHER}, and --expire says for how long"),
            )?;
        }
        Some(end) => report.ok(&format!("the token expires {}", distance(end, now)))?,
        None => report.ok("the token never expires")?,
    }
    match issuers.map(|app| app.verifier.verify(token, now)) {
        Some(Ok(verified)) => {
            report.ok(&format!("the token is good by [{}]", verified.issuer().section))
        }
        // Said already.
        None | Some(Err(Reject::Expired)) => Ok(()),
        Some(Err(reject)) => report.wrong(
            &format!("the issuers configured here refuse the token: {reject}"),
            "countersign token inspect shows what it says",
        ),
    }
}

/// The client types that a claim names: none means `api`.
fn client_types(claim: &Value) -> Vec<String> {
    match claim {
        Value::Null => vec![ClientType::Api.name().into()],
        Value::Array(types) => types.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        claim => {
            claim.as_str().unwrap_or_default().split(',').map(|one| one.trim().to_owned()).collect()
        }
    }
}

/// Whether the server answers, and what it says to the token. Says whether it verifies
/// tokens.
fn check_server(transport: &Transport, report: &mut DoctorReport) -> io::Result<bool> {
    let client = match ServerClient::new(transport.clone()) {
        Ok(client) => client,
        Err(fault) => return report.fault("", &fault).map(|()| false),
    };
    if let Err(fault) = client.call(health().anonymous()) {
        return report.fault("", &fault).map(|()| false);
    }
    report.ok(match transport.ssl {
        true => "the server answers, and its certificate is trusted",
        false => "the server answers, without TLS",
    })?;
    if !matches!(
        client.call(guarded().anonymous()),
        Err(CallError { status: Some(StatusCode::UNAUTHORIZED), .. })
    ) {
        return report.ok("the server asks for no token").map(|()| false);
    }
    if transport.token.is_none() {
        let help = format!("set token in [{}]: {ANOTHER}", transport.section);
        report.wrong("the server asks for a token, and the section has none", &help)?;
        return Ok(true);
    }
    // Where no token is needed, a bad one is refused all the same.
    match client.call(health()).map(|_| client.call(guarded())) {
        Err(fault) => report.fault("the server refuses the token: ", &fault)?,
        Ok(Err(fault)) if !is_about_this_call(&fault) => {
            report.fault("the server does not accept the token: ", &fault)?
        }
        Ok(_) => report.ok("the server accepts the token")?,
    }
    Ok(true)
}

/// Whether the server believes what is signed with the key that is configured here, as
/// all servers of one set have to.
fn check_signing_key(
    transport: &Transport,
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
    let Some(token) =
        issue::sign(signer, &request, clock::now()).ok().and_then(|token| BearerToken::new(&token))
    else {
        return report.wrong(
            &format!("[{}] signs no token", signer.section()),
            "countersign config check says what it means",
        );
    };
    let client = ServerClient::new(Transport { token: Some(token), ..transport.clone() });
    match client.and_then(|client| client.call(health())) {
        Ok(_) => report.ok(&format!("the server has the signing key of [{}]", signer.section())),
        Err(fault) => {
            let text = format!(
                "the server does not believe the signing key of [{}]: {}",
                signer.section(),
                fault.text
            );
            report.wrong(&text, "servers that share a database need the same auth_jwt_* sections")
        }
    }
}

/// Whether a token is good, and only not meant for the call that was made: an agent may
/// make others.
fn is_about_this_call(fault: &CallError) -> bool {
    const TEXTS: [&str; 3] = [
        "The authorization token is scoped to a specific environment.",
        "The authorization token does not have a valid client type for this call.",
        "Request is not allowed by the access policy.",
    ];
    fault.status == Some(StatusCode::FORBIDDEN)
        && TEXTS.iter().any(|text| fault.text.contains(text))
}

/// A call that needs no token.
fn health() -> ApiCall {
    ApiCall::get(&["health"])
}

/// A call that needs one.
fn guarded() -> ApiCall {
    ApiCall::get(&["environment"])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn client_types_are_read_as_servers_read_them() {
        assert_eq!(client_types(&json!("api, agent")), ["api", "agent"]);
        assert_eq!(client_types(&json!(["agent"])), ["agent"]);
        assert_eq!(client_types(&Value::Null), ["api"]);
    }
}
