//! The server that a command connects to: its address, the trust in its certificate, and the
//! token.
//!
//! The address is that of `--server`, or of `COUNTERSIGN_SERVER`, or of
//! `[cmdline_rest_transport]`, or else of `[server]`. The token is that of `COUNTERSIGN_TOKEN`, or
//! of `[cmdline_rest_transport]`, or else of the last login to this server. A token of a login is
//! not sent to another server, nor is a token of the configuration, except where `--host` and
//! `--port` change the configured address.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use countersign_front::ListenAddress;

use super::{
    CommandError, ConfigSource,
    arguments::{ServerArgs, ServerUrl, server_url},
    sessions::SessionStore,
    variable,
};
use crate::config::{BearerToken, Config, Listener, Transport};

/// Variable with the URL of the server.
const SERVER_VARIABLE: &str = "COUNTERSIGN_SERVER";
/// Variable with the token.
pub(super) const TOKEN_VARIABLE: &str = "COUNTERSIGN_TOKEN";

/// Address, trust and token of a connection.
#[derive(Clone)]
pub(super) struct ServerConnection {
    /// Address, timeout, token, and trusted root certificates.
    pub(super) transport: Transport,
    pub(super) address_source: AddressSource,
    pub(super) token_source: TokenSource,
    /// The file whose first certificate is the only trusted one: `ssl_cert_file` in `[server]`.
    pub(super) certificate: Option<PathBuf>,
}

/// Source of the address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum AddressSource {
    /// `--server`.
    Option,
    /// [`SERVER_VARIABLE`].
    Variable,
    /// The section of the [`Transport`], or `--host` and `--port`.
    Transport,
    /// `[server]`.
    ServerSection,
}

/// Source of the token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenSource {
    /// [`TOKEN_VARIABLE`].
    Variable,
    /// The section of the [`Transport`].
    Transport,
    /// The file of a login.
    Session,
}

impl ServerConnection {
    /// Connects as a `*_rest_transport` section describes.
    pub(super) fn of_transport(transport: Transport) -> Self {
        Self {
            transport,
            address_source: AddressSource::Transport,
            token_source: TokenSource::Transport,
            certificate: None,
        }
    }

    /// Returns the connection of the command line, with its token.
    pub(super) fn resolve(source: &ConfigSource, args: &ServerArgs) -> Result<Self, CommandError> {
        Self::resolve_address(&source.load_for_client()?, args)?.with_token()
    }

    /// Returns the connection of the command line, with the token of the configuration, if that
    /// is for this server.
    pub(super) fn resolve_address(
        config: &Config,
        args: &ServerArgs,
    ) -> Result<Self, CommandError> {
        let configured = Self::configured(config, args);
        let Some((ServerUrl { ssl, host, port }, address_source)) = named_server(args)? else {
            return configured;
        };
        let transport = config.transports.cmdline.clone();
        let authorities = transport.authorities.clone();
        let authorities = authorities.or_else(|| config.transports.advertised.authorities.clone());
        let named = Self {
            transport: Transport { ssl, host, port, authorities, token: None, ..transport },
            address_source,
            token_source: TokenSource::Transport,
            certificate: None,
        };
        Ok(match configured {
            Ok(configured) if configured.session_key() == named.session_key() => {
                Self { address_source, ..configured }
            }
            _ => named,
        })
    }

    /// Returns the connection of the configuration, with `--host` and `--port`.
    fn configured(config: &Config, args: &ServerArgs) -> Result<Self, CommandError> {
        let transport = config.transports.cmdline.clone();
        let mut connection = if transport.has_address {
            Self::of_transport(transport)
        } else {
            Self::of_listener(transport, &config.settings.listeners[0])?
        };
        let ServerArgs { host, port, .. } = args;
        if host.is_some() || port.is_some() {
            connection.address_source = AddressSource::Transport;
        }
        let transport = &mut connection.transport;
        transport.host = host.clone().unwrap_or_else(|| transport.host.clone());
        transport.port = port.unwrap_or(transport.port);
        if transport.port == 0 {
            return Err(CommandError::failed(
                "bind_port in [server] is 0, so that the port is only known to the server\n  help: \
                 set --port to the port in its start-up message",
            ));
        }
        Ok(connection)
    }

    fn of_listener(transport: Transport, listener: &Listener) -> Result<Self, CommandError> {
        if !listener.protocols.http1 {
            return Err(CommandError::failed(
                "[server] does not serve HTTP/1.1, which this command needs\n  help: add http/1.1 \
                 to protocols in [listen], or set --server",
            ));
        }
        let address = reachable_address(&listener.addresses)
            .ok_or_else(|| CommandError::failed("[server] has no TCP address: set --server"))?;
        Ok(Self {
            transport: Transport {
                host: address.ip().to_string(),
                port: address.port(),
                ssl: listener.tls.is_some(),
                ..transport
            },
            address_source: AddressSource::ServerSection,
            token_source: TokenSource::Transport,
            certificate: listener.tls.as_ref().map(|tls| tls.files().certificate.clone()),
        })
    }

    /// Adds the token: that of the variable, of the configuration, or of the last login.
    pub(super) fn with_token(mut self) -> Result<Self, CommandError> {
        if let Some(text) = variable(TOKEN_VARIABLE)? {
            // The message does not contain the token.
            let token = BearerToken::new(text.trim()).ok_or_else(|| {
                CommandError::failed(format_args!(
                    "{TOKEN_VARIABLE} has characters that a header cannot contain"
                ))
            })?;
            (self.transport.token, self.token_source) = (Some(token), TokenSource::Variable);
        } else if self.transport.token.is_none()
            && let Ok(sessions) = SessionStore::of_user()
            && let Some(session) = sessions.load(&self.session_key())?
        {
            (self.transport.token, self.token_source) = (Some(session), TokenSource::Session);
        }
        Ok(self)
    }

    /// Returns the place of a token that is used instead of that of a login.
    pub(super) fn overriding_token(&self) -> Option<String> {
        let section = self.section();
        self.transport.token.as_ref().and_then(|_| match self.token_source {
            TokenSource::Variable => Some(TOKEN_VARIABLE.into()),
            TokenSource::Transport => Some(format!("[{section}]")),
            TokenSource::Session => None,
        })
    }

    /// Returns the normal form of the origin, which identifies the server of a session.
    pub(super) fn session_key(&self) -> String {
        self.transport.origin().to_ascii_lowercase()
    }

    /// Returns the source of the address, for the user.
    pub(super) fn label(&self) -> String {
        match self.address_source {
            AddressSource::Option => "--server".into(),
            AddressSource::Variable => SERVER_VARIABLE.into(),
            AddressSource::Transport => format!("[{}]", self.transport.section),
            AddressSource::ServerSection => "[server]".into(),
        }
    }

    /// Returns the help text for a wrong host or port.
    pub(super) fn address_help(&self) -> String {
        let label = self.label();
        match self.address_source {
            AddressSource::Option | AddressSource::Variable => format!("check {label}"),
            AddressSource::Transport => {
                format!("check host and port in {label}, or --host and --port")
            }
            AddressSource::ServerSection => {
                format!("check bind_address and bind_port in {label}, or set --server")
            }
        }
    }

    /// Returns the help text for a client and a server of which only one uses TLS.
    pub(super) fn tls_help(&self) -> String {
        let (label, is_on) = (self.label(), self.transport.ssl);
        let server = if is_on { "does not use" } else { "uses" };
        let remedy = match self.address_source {
            AddressSource::Option | AddressSource::Variable => {
                format!("write {} in {label}", if is_on { "http://" } else { "https://" })
            }
            AddressSource::Transport => format!("write ssl = {} in {label}", !is_on),
            AddressSource::ServerSection => {
                format!("restart it with the present ssl_cert_file in {label}")
            }
        };
        format!("if the server {server} TLS, {remedy}")
    }

    /// Returns the help text for a certificate of another host.
    pub(super) fn name_help(&self) -> String {
        format!("host in {} must be a name in the certificate", self.label())
    }

    /// Returns the help text for a certificate that is not trusted.
    pub(super) fn trust_help(&self) -> String {
        match &self.certificate {
            Some(file) => format!(
                "only the certificate in {} is trusted: if the server runs with another \
                 configuration, set --server",
                file.display()
            ),
            None => {
                let variable = match self.address_source {
                    AddressSource::Option | AddressSource::Variable => ", or SSL_CERT_FILE,",
                    AddressSource::Transport | AddressSource::ServerSection => "",
                };
                let section = self.section();
                format!("set ssl_ca_cert_file in [{section}]{variable} to its CA certificate")
            }
        }
    }

    /// Returns the help text for a call that requires a token.
    pub(super) fn missing_token_help(&self) -> String {
        let section = self.section();
        format!(
            "log in with countersign login, or set {TOKEN_VARIABLE}, or token in [{section}]; on \
             the server, countersign token bootstrap prints one"
        )
    }

    /// Returns the help text for a token that the server refuses.
    pub(super) fn token_help(&self) -> String {
        match self.token_source {
            TokenSource::Variable => {
                format!("check {TOKEN_VARIABLE} with countersign token inspect")
            }
            TokenSource::Transport => {
                format!("check the token in [{}] with countersign token inspect", self.section())
            }
            TokenSource::Session => {
                "the session may have expired: log in again with countersign login".into()
            }
        }
    }

    /// Returns the section with the options of the connection.
    pub(super) fn section(&self) -> &'static str {
        self.transport.section
    }
}

/// Returns the server that an argument or the environment names.
fn named_server(args: &ServerArgs) -> Result<Option<(ServerUrl, AddressSource)>, CommandError> {
    if let Some(url) = &args.server {
        return Ok(Some((url.clone(), AddressSource::Option)));
    }
    if args.host.is_some() || args.port.is_some() {
        return Ok(None);
    }
    let Some(text) = variable(SERVER_VARIABLE)? else { return Ok(None) };
    // The message does not contain the URL, in which there may be a password.
    let url = server_url(&text).map_err(|help| {
        CommandError::failed(format_args!(
            "{SERVER_VARIABLE} is not the URL of a server\n  help: {help}"
        ))
    })?;
    Ok(Some((url, AddressSource::Variable)))
}

/// Returns the address at which a process on this machine reaches a listener: a loopback address,
/// if it has one.
pub(super) fn reachable_address(addresses: &[ListenAddress]) -> Option<SocketAddr> {
    let local = |address: SocketAddr| match address.ip() {
        ip if !ip.is_unspecified() => address,
        IpAddr::V4(_) => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port()),
        IpAddr::V6(_) => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), address.port()),
    };
    let all: Vec<_> = addresses.iter().filter_map(ListenAddress::address).map(local).collect();
    all.iter().find(|address| address.ip().is_loopback()).or_else(|| all.first()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listener_is_reached_at_a_loopback_address() {
        let reach = |texts: &[&str]| {
            let parse = |text: &&str| ListenAddress::Tcp(text.parse().unwrap());
            let addresses: Vec<_> = texts.iter().map(parse).collect();
            reachable_address(&addresses).map(|address| address.to_string())
        };
        assert_eq!(reach(&["0.0.0.0:1"]).unwrap(), "127.0.0.1:1");
        assert_eq!(reach(&["[::]:1"]).unwrap(), "[::1]:1");
        assert_eq!(reach(&["10.0.0.1:1", "127.0.0.2:1"]).unwrap(), "127.0.0.2:1");
        assert_eq!(reach(&["10.0.0.1:1", "10.0.0.2:1"]).unwrap(), "10.0.0.1:1");
        assert_eq!(reachable_address(&[ListenAddress::Unix("/s".into())]), None);
    }
}
