//! `countersign client-config`: configuration section of an agent, a compiler or a program.

use super::{
    CommandError, ConfigSource,
    arguments::ClientConfigArgs,
    client::{ServerClient, is_uuid},
    prepared_signing_section, print,
    token::registry,
};
use crate::{
    accounts::signing::{self, Lifetime, TokenRequest},
    base::{claims::ClientType, clock, redacted::quoted},
    config::Config,
};

pub(super) fn run(source: &ConfigSource, args: &ClientConfigArgs) -> Result<(), CommandError> {
    let config = source.load()?;
    let (sections, types): (&[&str], &[ClientType]) = match args {
        ClientConfigArgs { agent: true, .. } => (&["agent_rest_transport"], &[ClientType::Agent]),
        // Compilers that the server starts also call the API.
        ClientConfigArgs { compiler: true, .. } => {
            (&["compiler_rest_transport"], &[ClientType::Compiler, ClientType::Api])
        }
        _ => (&["cmdline_rest_transport", "client_rest_transport"], &[ClientType::Api]),
    };
    let token =
        if args.local { sign(source, &config, args, types)? } else { ask(source, args, types)? };
    let settings = settings(&config, args.remote)?;
    for (index, section) in sections.iter().enumerate() {
        if index > 0 {
            print("")?;
        }
        print(format_args!("[{section}]\n{settings}token={token}"))?;
    }
    Ok(())
}

/// Signs a token as the server would.
fn sign(
    source: &ConfigSource,
    config: &Config,
    args: &ClientConfigArgs,
    types: &[ClientType],
) -> Result<String, CommandError> {
    if let Some(name) = args.environment.as_ref().filter(|environment| !is_uuid(environment)) {
        return Err(CommandError::failed(format_args!(
            "{} is not an id: --local cannot look up the name of an environment",
            quoted(name)
        )));
    }
    let section = prepared_signing_section(source, config)?;
    let request = TokenRequest {
        client_types: types.to_vec(),
        environment: args.environment.as_ref().map(|id| id.to_lowercase()),
        custom_claims: Vec::new(),
        lifetime: Lifetime::of(args.expire, false),
    };
    signing::sign(section, &request, clock::now()).map_err(CommandError::failed)
}

fn ask(
    source: &ConfigSource,
    args: &ClientConfigArgs,
    types: &[ClientType],
) -> Result<String, CommandError> {
    let client = ServerClient::of(source, &args.server)?;
    let environment = client.environment_id(args.environment.as_deref().unwrap_or_default())?;
    registry::request(&client, &environment, types, Lifetime::of(args.expire, false))
}

/// Returns the server's address and root certificates, one option per line.
fn settings(config: &Config, is_remote: bool) -> Result<String, CommandError> {
    let advertised = &config.transports.advertised;
    let listener = &config.settings.listeners[0];
    let address = listener
        .address()
        .ok_or_else(|| CommandError::failed("the main listener has no TCP port for clients"))?;
    let host = if is_remote { &advertised.address } else { &advertised.internal_address };
    let mut lines =
        format!("host={host}\nport={}\nssl={}\n", address.port(), listener.tls.is_some());
    if let (Some(file), true) = (&advertised.authorities, listener.tls.is_some()) {
        lines += &format!("ssl_ca_cert_file={}\n", file.display());
    }
    Ok(lines)
}
