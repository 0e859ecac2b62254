//! `countersign token create`, `list` and `delete`: tokens that a running server issues for
//! its environments.

use std::io::{self, IsTerminal as _};

use serde_json::{Value, json};

use crate::{
    accounts::signing::Lifetime,
    base::claims::ClientType,
    cli::{
        CommandError, ConfigSource,
        arguments::{TokenCreateArgs, TokenDeleteArgs, TokenListArgs},
        client::{ApiCall, ServerClient},
        print, printable,
        table::print_list,
    },
};

pub(super) fn create(source: &ConfigSource, args: TokenCreateArgs) -> Result<(), CommandError> {
    let client = ServerClient::of(source, &args.server)?;
    let environment = client.environment_id(&args.environment)?;
    let requested = [
        (ClientType::Api, args.api),
        (ClientType::Compiler, args.compiler),
        (ClientType::Agent, args.agent),
    ];
    let mut types: Vec<_> = requested
        .into_iter()
        .filter(|(_, is_requested)| *is_requested)
        .map(|(one, _)| one)
        .collect();
    if types.is_empty() {
        types.push(ClientType::Api);
    }
    let token = request(&client, &environment, &types, Lifetime::of(args.expire, args.idempotent))?;
    // A script gets the token alone, as from `token sign`.
    if io::stdout().is_terminal() {
        return Ok(print(format_args!("Token: {token}"))?);
    }
    Ok(print(token)?)
}

/// Requests a token from the server.
pub(in super::super) fn request(
    client: &ServerClient,
    environment: &str,
    types: &[ClientType],
    lifetime: Lifetime,
) -> Result<String, CommandError> {
    let types: Vec<_> = types.iter().map(|one| one.name()).collect();
    let mut body = json!({ "client_types": types, "idempotent": lifetime == Lifetime::Idempotent });
    if let Lifetime::Seconds(seconds) = lifetime {
        body["expire"] = seconds.into();
    }
    match client.call(ApiCall::post(&["environment_auth"], body).environment(environment))? {
        Value::String(token) => Ok(printable(&token)),
        _ => Err(CommandError::failed("the server's response contains no token")),
    }
}

pub(super) fn list(source: &ConfigSource, args: &TokenListArgs) -> Result<(), CommandError> {
    let client = ServerClient::of(source, &args.server)?;
    let environment = client.environment_id(&args.environment)?;
    let tokens = client.call(ApiCall::get(&["environment_auth"]).environment(&environment))?;
    let columns = [
        ("ID", "jti"),
        ("TYPES", "client_types"),
        ("BY", "created_by"),
        ("ISSUED", "issued_at"),
        ("EXPIRES", "expires_at"),
        ("REVOKED", "revoked_at"),
        ("LAST USED", "last_used"),
    ];
    Ok(print_list(&tokens, &columns, args.json)?)
}

pub(super) fn delete(source: &ConfigSource, args: &TokenDeleteArgs) -> Result<(), CommandError> {
    let client = ServerClient::of(source, &args.server)?;
    let environment = client.environment_id(&args.environment)?;
    client.call(ApiCall::delete(&["environment_auth", &args.jti]).environment(&environment))?;
    Ok(print(format_args!("Token {} is revoked.", args.jti))?)
}
