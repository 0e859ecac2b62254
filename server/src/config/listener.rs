//! Listeners: the main listener (`[server]` and `[listen]`), the metrics listener
//! (`[metrics]`), and any number of `[listener_<name>]`.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix,
    path::PathBuf,
    sync::Arc,
};

use countersign_front::{ListenAddress, Protocols, accept::SocketPermissions};

use super::{
    options::LISTENER_PREFIX, problem::Problems, reader::SectionReader, setting::Section,
    socket_file,
};
use crate::{
    auth::profile::Profile,
    authorization::ListenerAccess,
    base::{redacted::quoted, route::Serves},
    client::{ClientSettings, original_request::Dialect},
    keys::issuer::ListenerProperties,
    tls::{
        ReloadableTls,
        settings::{self as tls_settings, ClientCertificates, TlsSections},
    },
};

/// One listener: its addresses, its protocols, its routes and its trusted proxies.
#[derive(Clone, Debug)]
pub struct Listener {
    /// `main`, `metrics`, or the section name without `listener_`.
    pub name: String,
    /// Addresses to bind.
    pub addresses: Vec<ListenAddress>,
    /// Permissions of the files of its Unix sockets.
    pub socket_file: SocketPermissions,
    /// Options that set the addresses, for error messages.
    pub option: String,
    /// TLS, if it is configured.
    pub tls: Option<Arc<ReloadableTls>>,
    /// Versions of HTTP, or SPOP; see [`Protocols`].
    pub protocols: Protocols,
    /// Routes that the listener serves.
    pub serves: Serves,
    /// [`Profile`] of the responses of `/auth`.
    pub profile: Profile,
    /// Who may make requests; `None` if every verified token allows every request.
    pub access: Option<ListenerAccess>,
    /// The proxies that are trusted, and the headers in which they describe the client.
    pub client: ClientSettings,
    /// Whether connections of the proxies start with a PROXY protocol header.
    pub proxy_protocol: bool,
}

impl Listener {
    /// `http`, `https` or `spop`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        match &self.tls {
            _ if self.protocols.spop => "spop",
            Some(_) => "https",
            None => "http",
        }
    }

    /// Whether trusted proxies describe all requests that they check.
    #[must_use]
    pub fn describes_requests(&self) -> bool {
        self.protocols.spop || self.client.describes_requests()
    }

    /// Returns the certificates that it requests from clients.
    #[must_use]
    pub fn client_certificates(&self) -> &ClientCertificates {
        self.tls.as_ref().map_or(&ClientCertificates::Off, |tls| &tls.files().clients)
    }

    /// Returns the first TCP address.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.addresses.iter().find_map(ListenAddress::address)
    }
}

/// Reads all listeners: the main listener first, the metrics listener last.
pub(super) fn read_all(
    sections: &BTreeMap<String, Section>,
    problems: &mut Problems,
) -> Vec<Listener> {
    let addresses = read_addresses(&mut SectionReader::new(sections, "server", problems));
    let mut main = Listener::read(&mut SectionReader::new(sections, "listen", problems), MAIN);
    main.addresses = addresses;
    let main_tls = TlsSections { all: sections, certificate: "server", clients: "listen" };
    (main.protocols, main.tls) = tls_settings::read(main_tls, problems);
    main.option = "bind_address and bind_port in [server]".into();
    let mut listeners = vec![main];
    for (section, name) in sections
        .keys()
        .filter_map(|section| Some((section, section.strip_prefix(LISTENER_PREFIX)?)))
    {
        let mut reader = SectionReader::new(sections, section, problems);
        check_name(&mut reader, name);
        let mut listener = Listener::read(&mut reader, name);
        listener.addresses = read_bind(&mut reader);
        listener.socket_file = socket_file::read(&mut reader, &listener.addresses);
        let own = TlsSections { all: sections, certificate: section, clients: section };
        (listener.protocols, listener.tls) = tls_settings::read(own, problems);
        if listener.protocols.spop {
            listener.serves =
                read_spop_routes(&mut SectionReader::new(sections, section, problems));
        }
        listeners.push(listener);
    }
    listeners.push(Listener::metrics(sections, problems));
    check_http3(sections, &listeners, problems);
    check_addresses_differ(sections, &listeners, problems);
    warn_of_public_operations(sections, &listeners, problems);
    warn_of_untrusted_proxies(sections, &listeners, problems);
    listeners
}

/// Returns the properties that the issuer sections depend on.
pub(super) fn properties(listeners: &[Listener]) -> ListenerProperties {
    let has_inmanta_surface = listeners.iter().any(|one| one.profile == Profile::Inmanta);
    ListenerProperties { serves_tls: listeners[0].tls.is_some(), has_inmanta_surface }
}

/// Names of the listeners that always exist.
const MAIN: &str = "main";
const METRICS: &str = "metrics";

impl Listener {
    /// Reads the options of a section except its addresses and TLS.
    fn read(reader: &mut SectionReader<'_>, name: &str) -> Self {
        warn_without_trusted_proxies(reader);
        Self {
            name: name.into(),
            addresses: Vec::new(),
            socket_file: SocketPermissions::default(),
            tls: None,
            protocols: Protocols::HTTP1,
            option: format!("bind in [{}]", reader.section),
            serves: reader.choice("serves", &Serves::ALL, Serves::name),
            profile: reader.choice("surface", &Profile::ALL, Profile::name),
            access: ListenerAccess::read(reader),
            client: ClientSettings::read(reader),
            proxy_protocol: read_proxy_protocol(reader),
        }
    }

    /// Returns the metrics listener. Its section sets only the address; the defaults of the main
    /// listener apply to the rest.
    fn metrics(sections: &BTreeMap<String, Section>, problems: &mut Problems) -> Self {
        let unset = BTreeMap::new();
        let defaults = Self::read(&mut SectionReader::new(&unset, "listen", problems), METRICS);
        let address = read_metrics_address(&mut SectionReader::new(sections, "metrics", problems));
        Self {
            addresses: vec![address],
            option: "bind_address and bind_port in [metrics]".into(),
            serves: Serves::Operations,
            ..defaults
        }
    }

    /// Returns the section with the listener's options other than its addresses.
    pub(super) fn section<'s>(&self, sections: &'s BTreeMap<String, Section>) -> &'s str {
        if self.name == MAIN { "listen" } else { self.bind_option(sections).0 }
    }

    /// Returns the section and option that set the addresses.
    fn bind_option<'s>(&self, sections: &'s BTreeMap<String, Section>) -> (&'s str, &'static str) {
        match self.name.as_str() {
            MAIN => ("server", "bind_port"),
            METRICS => ("metrics", "bind_port"),
            name => {
                let is_its_own =
                    |section: &&String| section.strip_prefix(LISTENER_PREFIX) == Some(name);
                (sections.keys().find(is_its_own).map_or("listen", String::as_str), "bind")
            }
        }
    }
}

/// Checks a listener's name, which identifies it in logs and across reloads.
fn check_name(reader: &mut SectionReader<'_>, name: &str) {
    const HELP: &str = "choose another name, such as [listener_internal]";
    match name {
        "" => reader.error("", format!("the listener of [{}] has no name", reader.section), HELP),
        MAIN | METRICS => reader.error("", format!("the listener name {name} is reserved"), HELP),
        _ => {}
    }
}

/// Returns the routes of a listener with SPOP, which has no paths: it decides as `/auth` does.
fn read_spop_routes(reader: &mut SectionReader<'_>) -> Serves {
    if reader.text("serves").is_some_and(|text| text != Serves::Auth.name()) {
        let text = format!("serves in {}: a listener with spop only serves checks", reader.section);
        reader.error("serves", text, "remove the line, or write serves = auth");
    }
    Serves::Auth
}

/// Warns about options that have no effect without trusted proxies.
fn warn_without_trusted_proxies(reader: &mut SectionReader<'_>) {
    if reader.list("trusted_proxies").is_some_and(|trusted| !trusted.is_empty()) {
        return;
    }
    for option in ["client_address_header", "client_certificate_header", "dialect"] {
        if reader.text(option).is_some_and(|text| text != Dialect::None.name()) {
            let text =
                format!("{option} in {} has no effect without trusted proxies", reader.section);
            reader.warn(option, text, "list the proxies that set it in trusted_proxies");
        }
    }
}

/// Rejects HTTP/3 without a port, and with the PROXY protocol, which has no form for QUIC.
fn check_http3(
    sections: &BTreeMap<String, Section>,
    listeners: &[Listener],
    problems: &mut Problems,
) {
    for listener in listeners.iter().filter(|listener| listener.protocols.http3) {
        let mut reader = SectionReader::new(sections, listener.section(sections), problems);
        if listener.address().is_none() && !listener.addresses.is_empty() {
            let text = format!("listener {} has h3 but only Unix sockets", listener.name);
            reader.error("protocols", text, "also bind it to an address with a port, or remove h3");
        }
        if listener.proxy_protocol {
            let text = format!(
                "listener {} has h3, which does not support the PROXY protocol",
                listener.name
            );
            reader.error("protocols", text, "use a separate listener for h3");
        }
    }
}

/// Rejects addresses that two listeners cannot bind at once.
fn check_addresses_differ(
    sections: &BTreeMap<String, Section>,
    listeners: &[Listener],
    problems: &mut Problems,
) {
    let mut taken: Vec<(&ListenAddress, &str)> = Vec::new();
    for listener in listeners {
        let (section, option) = listener.bind_option(sections);
        for address in &listener.addresses {
            if let Some((other, by)) = taken.iter().find(|(other, _)| conflict(other, address)) {
                let text = format!(
                    "listener {} cannot bind {address}: listener {by} binds {other}",
                    listener.name
                );
                let mut reader = SectionReader::new(sections, section, problems);
                reader.error(option, text, "use a different port or path for each listener");
            }
            taken.push((address, &listener.name));
        }
    }
}

fn warn_of_public_operations(
    sections: &BTreeMap<String, Section>,
    listeners: &[Listener],
    problems: &mut Problems,
) {
    for listener in listeners.iter().filter(|listener| listener.serves == Serves::Operations) {
        let (section, option) = listener.bind_option(sections);
        let mut reader = SectionReader::new(sections, section, problems);
        for address in listener.addresses.iter().filter(|address| is_public(address)) {
            let text = format!("metrics and the key status are public at {address}");
            let help = "bind the listener to 127.0.0.1 or to an address of a private network";
            reader.warn(option, text, help);
        }
    }
}

/// Warns about listeners that only proxies use, but that trust none: the limits per client address
/// then apply to the proxy.
fn warn_of_untrusted_proxies(
    sections: &BTreeMap<String, Section>,
    listeners: &[Listener],
    problems: &mut Problems,
) {
    for listener in listeners.iter().filter(|listener| !listener.client.proxies.trusts_any()) {
        let (section, option) = listener.bind_option(sections);
        let is_local = !listener.addresses.is_empty()
            && listener.addresses.iter().all(|address| address.address().is_none());
        let (option, reason) = match listener.serves {
            Serves::Auth if listener.protocols.spop => ("protocols", "serves only SPOP"),
            Serves::Auth => ("serves", "serves only /auth"),
            Serves::Everything if is_local => (option, "binds only Unix sockets"),
            Serves::Everything | Serves::Operations => continue,
        };
        let text = format!(
            "listener {} {reason}, so proxies connect to it, but trusted_proxies is empty: limits \
             and logs see the address of the proxy",
            listener.name
        );
        let help = "list the proxies in trusted_proxies, such as 127.0.0.1 or unix";
        SectionReader::new(sections, section, problems).risk(option, text, help);
    }
}

/// Whether two listeners cannot bind both addresses.
fn conflict(one: &ListenAddress, other: &ListenAddress) -> bool {
    match (one, other) {
        (ListenAddress::Tcp(one), ListenAddress::Tcp(other)) => {
            let is_within = one.is_ipv4() == other.is_ipv4()
                && (one.ip().is_unspecified() || other.ip().is_unspecified());
            one.port() == other.port() && one.port() != 0 && (one.ip() == other.ip() || is_within)
        }
        (one, other) => one == other,
    }
}

/// Whether clients outside a private network may reach the address.
fn is_public(address: &ListenAddress) -> bool {
    let ListenAddress::Tcp(address) = address else { return false };
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => {
            let is_shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
            !(ip.is_loopback() || ip.is_private() || ip.is_link_local() || is_shared)
        }
        IpAddr::V6(ip) => !(ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()),
    }
}

/// Reads `proxy_protocol`, which requires trusted proxies.
fn read_proxy_protocol(reader: &mut SectionReader<'_>) -> bool {
    let is_on = reader.flag("proxy_protocol");
    if is_on && reader.list("trusted_proxies").is_none_or(|trusted| trusted.is_empty()) {
        let text =
            format!("proxy_protocol in {} is on but trusted_proxies is empty", reader.section);
        reader.error("proxy_protocol", text, "list the proxies that send it in trusted_proxies");
    }
    is_on
}

fn read_addresses(server: &mut SectionReader<'_>) -> Vec<ListenAddress> {
    let port = server.number("bind_port");
    let addresses = server.list("bind_address").unwrap_or_else(|| vec!["127.0.0.1"]);
    if addresses.is_empty() {
        server.error(
            "bind_address",
            "bind_address in server is empty",
            "write an address such as 127.0.0.1",
        );
    }
    let addresses = addresses.into_iter().filter_map(|address| read_address(server, address));
    addresses.map(|ip| ListenAddress::Tcp(SocketAddr::new(ip, port))).collect()
}

fn read_metrics_address(metrics: &mut SectionReader<'_>) -> ListenAddress {
    let port = metrics.number("bind_port");
    let address = metrics.text("bind_address").and_then(|address| read_address(metrics, address));
    ListenAddress::Tcp(SocketAddr::new(address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), port))
}

fn read_address(reader: &mut SectionReader<'_>, address: &str) -> Option<IpAddr> {
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    let parsed = match bare {
        "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        bare => bare.parse().ok(),
    };
    if parsed.is_none() {
        reader.error(
            "bind_address",
            format!("bind_address in {}: {} is not an IP address", reader.section, quoted(address)),
            "write one such as 127.0.0.1, 0.0.0.0 or ::1",
        );
    }
    parsed
}

/// Reads `bind` of a `[listener_<name>]`: addresses with ports, and Unix sockets.
fn read_bind(reader: &mut SectionReader<'_>) -> Vec<ListenAddress> {
    const HELP: &str =
        "write one such as bind=127.0.0.1:9000, [::1]:9000 or unix:/run/countersign.sock";
    const SHORTER: &str =
        "most systems allow 107 bytes: choose a shorter path such as unix:/run/countersign.sock";
    let texts = reader.list("bind").unwrap_or_default();
    if texts.is_empty() {
        let message = format!("bind is required in {} section", reader.section);
        reader.error("bind", message, HELP);
    }
    let mut addresses = Vec::new();
    for text in texts {
        let path = text.strip_prefix("unix:").map(PathBuf::from).filter(|path| path.is_absolute());
        match path.map(ListenAddress::Unix).or_else(|| text.parse().ok().map(ListenAddress::Tcp)) {
            Some(ListenAddress::Unix(path))
                if unix::net::SocketAddr::from_pathname(&path).is_err() =>
            {
                let length = path.as_os_str().len();
                reader.error(
                    "bind",
                    format!("a path in bind has {length} bytes, too long for a Unix socket"),
                    SHORTER,
                );
            }
            Some(address) => addresses.push(address),
            None => reader.error(
                "bind",
                format!(
                    "{} is neither an address with a port nor a Unix socket path",
                    quoted(text)
                ),
                HELP,
            ),
        }
    }
    addresses
}
