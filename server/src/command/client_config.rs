//! `countersign client-config`: what an agent, a compiler or a program is told about
//! the server, ready to be put into its configuration.

use super::{
    CommandError, ConfigSource,
    client::{ServerClient, is_uuid},
    print,
    token::registry,
};
use crate::{
    cli::ClientConfigArgs,
    clock,
    config::{ClientType, Config},
    issue::{self, Lifetime, TokenRequest},
};

pub(super) fn run(place: &ConfigSource, args: &ClientConfigArgs) -> Result<(), CommandError> {
    let config = place.load()?;
    let (sections, types): (&[&str], &[ClientType]) = match args {
        ClientConfigArgs { agent: true, .. } => (&["agent_rest_transport"], &[ClientType::Agent]),
        // As the server's own compilers have it: they call the API, too.
        ClientConfigArgs { compiler: true, .. } => {
            (&["compiler_rest_transport"], &[ClientType::Compiler, ClientType::Api])
        }
        _ => (&["cmdline_rest_transport", "client_rest_transport"], &[ClientType::Api]),
    };
    let token = match args.local {
        true => sign(&config, args, types)?,
        false => ask(place, args, types)?,
    };
    let settings = settings(&config, args.remote)?;
    for (place, section) in sections.iter().enumerate() {
        if place > 0 {
            print("")?;
        }
        print(format_args!("[{section}]\n{settings}token={token}"))?;
    }
    Ok(())
}

/// Signs a token as the server would.
fn sign(
    config: &Config,
    args: &ClientConfigArgs,
    types: &[ClientType],
) -> Result<String, CommandError> {
    if let Some(name) = args.environment.as_ref().filter(|environment| !is_uuid(environment)) {
        return Err(CommandError::failed(format_args!(
            "{name:?} is no id: with --local, nobody is asked for an environment's name"
        )));
    }
    let section = config
        .signing()
        .ok_or_else(|| CommandError::failed("no section has sign = true: nothing to sign with"))?;
    let request = TokenRequest {
        client_types: types.to_vec(),
        environment: args.environment.as_ref().map(|id| id.to_lowercase()),
        custom_claims: Vec::new(),
        lifetime: Lifetime::of(args.expire, false),
    };
    issue::sign(section, &request, clock::now()).map_err(CommandError::failed)
}

fn ask(
    place: &ConfigSource,
    args: &ClientConfigArgs,
    types: &[ClientType],
) -> Result<String, CommandError> {
    let client = ServerClient::of(place, &args.server)?;
    let environment = client.environment_id(args.environment.as_deref().unwrap_or_default())?;
    registry::request(&client, &environment, types, Lifetime::of(args.expire, false))
}

/// Where the server is and who vouches for it, a line each.
fn settings(config: &Config, is_remote: bool) -> Result<String, CommandError> {
    let advertised = &config.transports.advertised;
    let listener = &config.server.listeners[0];
    let address = listener.address().ok_or_else(|| {
        CommandError::failed("the main listener has no port that a client could reach")
    })?;
    let host = if is_remote { &advertised.address } else { &advertised.internal_address };
    let mut lines =
        format!("host={host}\nport={}\nssl={}\n", address.port(), listener.tls.is_some());
    if let (Some(file), true) = (&advertised.authorities, listener.tls.is_some()) {
        lines += &format!("ssl_ca_cert_file={}\n", file.display());
    }
    Ok(lines)
}
