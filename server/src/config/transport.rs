//! `*_rest_transport` sections: how clients connect to the server. Also the addresses that
//! `[server]` advertises to clients.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv6Addr},
    path::PathBuf,
    time::Duration,
};

use super::{problem::Problems, reader::SectionReader, setting::Section};
use crate::base::{claims::ClientType, redacted::quoted};

/// The four `*_rest_transport` sections and the advertised addresses.
#[derive(Clone, Debug)]
pub struct Transports {
    /// `[agent_rest_transport]`.
    pub agent: Transport,
    /// `[client_rest_transport]`: programs that call the API.
    pub client: Transport,
    /// `[cmdline_rest_transport]`: the command line.
    pub cmdline: Transport,
    /// `[compiler_rest_transport]`.
    pub compiler: Transport,
    /// Addresses that the server advertises.
    pub advertised: AdvertisedAddresses,
}

impl Transports {
    pub(super) fn read(sections: &BTreeMap<String, Section>, problems: &mut Problems) -> Self {
        let mut transport = |name: &'static str, client_type| {
            let reader = &mut SectionReader::new(sections, name, problems);
            Transport::read(reader, name, client_type)
        };
        Self {
            agent: transport("agent_rest_transport", ClientType::Agent),
            client: transport("client_rest_transport", ClientType::Api),
            cmdline: transport("cmdline_rest_transport", ClientType::Api),
            compiler: transport("compiler_rest_transport", ClientType::Compiler),
            advertised: AdvertisedAddresses::read(&mut SectionReader::new(
                sections, "server", problems,
            )),
        }
    }

    /// Returns the sections present in the configuration, in order of name.
    pub fn configured(&self) -> impl Iterator<Item = &Transport> {
        [&self.agent, &self.client, &self.cmdline, &self.compiler]
            .into_iter()
            .filter(|transport| transport.is_configured)
    }
}

/// Connection settings of one kind of client.
#[derive(Clone, Debug)]
pub struct Transport {
    /// Name of the section.
    pub section: &'static str,
    /// [`ClientType`] of the clients that use it.
    pub client_type: ClientType,
    /// Whether the section is in the configuration. Otherwise all values are defaults.
    pub is_configured: bool,
    /// Whether the section has an address or TLS options. Otherwise it has only a token or
    /// timeouts, and the address is that of `[server]`.
    pub has_address: bool,
    /// `host`: a name or an address.
    pub host: String,
    /// `port`.
    pub port: u16,
    /// `ssl`.
    pub ssl: bool,
    /// `ssl_ca_cert_file`: trusted root certificates, in addition to those of the system.
    /// Read at first use, because a server's configuration may contain sections for agents
    /// on other machines.
    pub authorities: Option<PathBuf>,
    /// `token`.
    pub token: Option<BearerToken>,
    /// `request_timeout`. `None` for no timeout.
    pub timeout: Option<Duration>,
    /// `max_clients`: concurrent requests of an Inmanta client.
    pub max_clients: Option<u32>,
}

impl Transport {
    fn read(
        reader: &mut SectionReader<'_>,
        section: &'static str,
        client_type: ClientType,
    ) -> Self {
        let timeout = reader.seconds("request_timeout");
        let transport = Self {
            section,
            client_type,
            is_configured: reader.is_present(),
            has_address: ["host", "port", "ssl", "ssl_ca_cert_file"]
                .iter()
                .any(|option| reader.text(option).is_some()),
            host: read_host(reader, "host"),
            port: reader.number("port"),
            ssl: reader.flag("ssl"),
            authorities: reader.given("ssl_ca_cert_file").map(PathBuf::from),
            token: read_token(reader),
            timeout: Some(timeout).filter(|timeout| !timeout.is_zero()),
            max_clients: reader.optional_number("max_clients"),
        };
        transport.warn(reader);
        transport
    }

    /// Warns about options without effect, and about tokens sent without TLS.
    fn warn(&self, reader: &mut SectionReader<'_>) {
        let section = self.section;
        if !self.ssl && self.authorities.is_some() {
            let text = format!("ssl_ca_cert_file in {section} is ignored without ssl");
            reader.warn("ssl_ca_cert_file", text, "write ssl = true in the same section");
        }
        if !self.ssl && self.token.is_some() && !self.is_on_this_machine() {
            let text = format!(
                "the token in {section} is sent to {} without TLS: anyone on the network path can \
                 read and use it",
                self.host
            );
            reader.warn("token", text, "configure TLS in the server and write ssl = true");
        }
    }

    fn is_on_this_machine(&self) -> bool {
        self.host == "localhost"
            || self.host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
    }

    /// Returns scheme, host and port of the server.
    #[must_use]
    pub fn origin(&self) -> String {
        let scheme = if self.ssl { "https" } else { "http" };
        format!("{scheme}://{}", self.authority())
    }

    /// Returns host and port in URI syntax.
    #[must_use]
    pub fn authority(&self) -> String {
        match self.host.parse::<Ipv6Addr>() {
            Ok(address) => format!("[{address}]:{}", self.port),
            Err(_) => format!("{}:{}", self.host, self.port),
        }
    }
}

/// Addresses that the server advertises to clients.
#[derive(Clone, Debug)]
pub struct AdvertisedAddresses {
    /// `internal_server_address`: for agents and compilers that the server starts.
    pub internal_address: String,
    /// `server_address`: for all other clients.
    pub address: String,
    /// `ssl_ca_cert_file`: root certificates of the server's certificate.
    pub authorities: Option<PathBuf>,
}

impl AdvertisedAddresses {
    fn read(server: &mut SectionReader<'_>) -> Self {
        Self {
            internal_address: read_host(server, "internal_server_address"),
            address: read_host(server, "server_address"),
            authorities: server.given("ssl_ca_cert_file").map(PathBuf::from),
        }
    }
}

/// Token of a client, as sensitive as a password. Its [`Debug`](fmt::Debug) output hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct BearerToken(Box<str>);

impl BearerToken {
    /// Creates a token. `None` if a header cannot contain it.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        text.bytes().all(|byte| byte.is_ascii_graphic()).then(|| Self(text.into()))
    }

    /// The token itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken(..)")
    }
}

fn read_token(reader: &mut SectionReader<'_>) -> Option<BearerToken> {
    let text = reader.given("token")?;
    // Messages do not contain the token, because they may be logged.
    let token = BearerToken::new(text);
    if token.is_none() {
        let problem =
            format!("token in {} has characters that a header cannot contain", reader.section);
        reader.error(
            "token",
            problem,
            "write the token alone on one line, as countersign token create prints it",
        );
    }
    token
}

fn read_host(reader: &mut SectionReader<'_>, option: &str) -> String {
    let text = reader.text_or_default(option);
    host(text).unwrap_or_else(|help| {
        reader.error(
            option,
            format!("{option} {} in {} is not a host", quoted(text), reader.section),
            &help,
        );
        "localhost".into()
    })
}

/// Parses the name or address of a host.
///
/// # Errors
/// A hint for the correct syntax.
pub fn host(text: &str) -> Result<String, String> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if bare.parse::<Ipv6Addr>().is_ok() || (!text.is_empty() && text.bytes().all(is_name)) {
        return Ok(bare.into());
    }
    Err("write a name or an address without scheme, port and path".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearer_token_debug_hides_the_token() {
        assert_eq!(format!("{:?}", BearerToken("secret".into())), "BearerToken(..)");
    }

    #[test]
    fn host_is_a_name_or_an_address() {
        for (text, read) in
            [("localhost", "localhost"), ("10.0.0.1", "10.0.0.1"), ("::1", "::1"), ("[::1]", "::1")]
        {
            assert_eq!(host(text).as_deref(), Ok(read));
        }
        for odd in
            ["", "https://localhost", "localhost:8888", "a b", "a/b", "user@host", "[::1", "\u{e9}"]
        {
            assert!(host(odd).is_err(), "{odd}");
        }
    }
}
