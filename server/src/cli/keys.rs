//! `countersign keys`: key generation, and the key status and key fetches of a running server.

use std::time::Duration;

use serde_json::{Value, json};
use ureq::Agent;

use super::{
    CommandError, ConfigSource,
    arguments::{KeysCommand, KeysRefreshArgs},
    client::{ApiCall, ServerClient},
    connection::{ServerConnection, reachable_address},
    key_rotation,
    password::PasswordInput,
    print, printable, state_directory, variable,
};
use crate::{
    base::{redacted::json_error, route::Serves, secret_hash::hash_text},
    config::Config,
};

pub(super) fn run(source: &ConfigSource, command: KeysCommand) -> Result<(), CommandError> {
    match command {
        KeysCommand::Generate => Ok(print(state_directory::generate_key()?)?),
        KeysCommand::Client { name } => client(&name),
        KeysCommand::Status { url, json } => status(source, url, json),
        KeysCommand::Refresh(args) => refresh(source, args),
        KeysCommand::Rotate(args) => key_rotation::run(source, &args),
    }
}

/// Variable with the secret of a client.
const SECRET_VARIABLE: &str = "COUNTERSIGN_CLIENT_SECRET";

/// Has a running server fetch keys, and prints the results.
fn refresh(source: &ConfigSource, args: KeysRefreshArgs) -> Result<(), CommandError> {
    let KeysRefreshArgs { server, section, client } = args;
    let connection = ServerConnection::resolve_address(&source.load_for_client()?, &server)?;
    let secret = match variable(SECRET_VARIABLE)? {
        Some(secret) => secret,
        None => PasswordInput::choose(false).ask(&format!("Secret of {client}: "))?,
    };
    let body = json!({ "section": section, "client_id": client, "client_secret": secret.trim() });
    let call = ApiCall::post_outside_api("/keys/refresh", body);
    let response = ServerClient::new(connection)?.call_whole(call)?;
    let mut is_confirmed = true;
    for result in response["sections"].as_array().into_iter().flatten() {
        let text = |name: &str| printable(result[name].as_str().unwrap_or_default());
        let outcome = match result["result"].as_str() {
            Some("confirmed") => "fetched".into(),
            Some("failed") => format!("failed: {}", text("text")),
            _ => "still running: see countersign keys status".into(),
        };
        is_confirmed &= result["result"] == "confirmed";
        print(format_args!("[{}] {outcome}", text("section")))?;
    }
    if is_confirmed { Ok(()) } else { Err(CommandError::failed("not all keys were fetched")) }
}

/// Generates a secret for a client, and its line for `[api_clients]`.
fn client(name: &str) -> Result<(), CommandError> {
    let secret = state_directory::generate_key()?;
    print(format_args!(
        "The secret of {name}, shown only once:\n\n{secret}\n\nFor the configuration (.cfg):\n"
    ))?;
    let hash = hash_text(&secret);
    Ok(print(format_args!(
        "[api_clients]\n{name} = {hash}\n\nThe same in TOML:\n\n[api_clients]\n{name:?} = \
         \"{hash}\""
    ))?)
}

fn metrics_url(config: &Config) -> Result<String, CommandError> {
    let listener = config
        .settings
        .listeners
        .iter()
        .rev()
        .find(|listener| listener.serves == Serves::Operations);
    let address = listener.and_then(|listener| reachable_address(&listener.addresses));
    let address = address
        .ok_or_else(|| CommandError::failed("no listener serves operations over TCP: set --url"))?;
    Ok(format!("http://{address}/keys"))
}

/// Prints the key status of a running server.
fn status(source: &ConfigSource, url: Option<String>, as_json: bool) -> Result<(), CommandError> {
    let url = match url {
        Some(url) => url,
        None => metrics_url(&source.load()?)?,
    };
    if !url.starts_with("http://") {
        return Err(CommandError::failed(format_args!(
            "{url} is not an http:// URL: the metrics listener uses plain HTTP"
        )));
    }
    // Proxies of the environment are for requests to key providers.
    let agent: Agent = Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(10)))
        .proxy(None)
        .build()
        .new_agent();
    let requested =
        agent.get(&url).call().and_then(|mut response| response.body_mut().read_to_string());
    let text = requested.map_err(|error| {
        CommandError::failed(format_args!(
            "no server answers at {url}: {error}; set --url or --config to its metrics listener"
        ))
    })?;
    if as_json {
        return Ok(print(text.trim_end())?);
    }
    let status: Value = serde_json::from_str(&text)
        .map_err(|error| CommandError::failed(format_args!("{url}: {}", json_error(&error))))?;
    for issuer in status["issuers"].as_array().into_iter().flatten() {
        for line in describe(issuer) {
            print(line)?;
        }
    }
    Ok(())
}

fn describe(issuer: &Value) -> Vec<String> {
    let text = |name: &str| issuer[name].as_str().unwrap_or_default().to_owned();
    let mut lines = vec![format!("[{}] {}", text("section"), text("issuer"))];
    let keys = issuer["keys"].as_array().map_or(&[][..], Vec::as_slice);
    let name = |key: &Value| {
        format!(
            "{} {}",
            key["alg"].as_str().unwrap_or_default(),
            key["kid"].as_str().unwrap_or("(no kid)")
        )
    };
    let names: Vec<_> = keys.iter().map(name).collect();
    lines.push(match (names.is_empty(), issuer["withdrawn"] == "empty") {
        (true, true) => {
            "  no keys, as its key set is empty: its tokens are answered with 503".into()
        }
        (true, false) => "  no keys: its tokens are answered with 503".into(),
        (false, _) => format!("  keys: {}", names.join(", ")),
    });
    lines.extend(issuer["skipped"].as_array().into_iter().flatten().map(|key| {
        let kid = match key["kid"].as_str() {
            Some(kid) => format!("kid {:?}", kid.chars().take(64).collect::<String>()),
            None => "no kid".into(),
        };
        let reason = key["reason"].as_str().unwrap_or_default();
        format!("  skipped: keys[{}] ({kid}): {reason}", key["index"])
    }));
    let Some(source) = issuer["source"].as_str() else {
        lines.push("  static keys, never refreshed".into());
        return lines;
    };
    lines.push(format!("  from {source}"));
    lines.push(match issuer["seconds_since_success"].as_u64() {
        Some(seconds) => format!("  confirmed {seconds} s ago"),
        None => "  never confirmed".into(),
    });
    if let (Some(reason), Some(seconds)) =
        (issuer["last_failure"]["text"].as_str(), issuer["last_failure"]["seconds_ago"].as_u64())
    {
        let still = if issuer["failing"] == true { "failing now" } else { "working since" };
        lines.push(format!("  last failure {seconds} s ago ({still}): {reason}"));
    }
    let fetches = &issuer["fetches"];
    let count = |cause: &str| fetches[cause].as_u64().unwrap_or_default();
    lines.push(format!(
        "  fetched {} at start, {} on schedule, {} as retries, {} on request, {} for an unknown \
         kid ({} tokens had one, {} of them undecided)",
        count("start"),
        count("schedule"),
        count("retry"),
        count("request"),
        count("unknown_kid"),
        issuer["unknown_kids"],
        issuer["undecided_kids"]
    ));
    lines
}
