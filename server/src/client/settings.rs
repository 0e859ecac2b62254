//! The options of a listener for its trusted proxies and their headers.

use std::net::IpAddr;

use countersign_front::Fields;
use http::HeaderName;

use super::{
    certificate::{CertificateFormat, CertificateHeader},
    original_request::{Dialect, OriginalRequest},
    trusted_proxies::{Network, TrustedProxies},
};
use crate::{
    base::{header_names::is_header, redacted::quoted},
    config::reader::SectionReader,
};

/// The trusted proxies of a listener, and the headers in which they describe the client.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// The trusted proxies, and the header with the client's address.
    pub proxies: TrustedProxies,
    /// The headers in which they name the original request.
    pub dialect: Dialect,
    /// The header with the certificate of the client.
    pub certificate_header: Option<CertificateHeader>,
    /// Whether CORS preflights are allowed without a token.
    pub allows_preflights: bool,
}

impl ClientSettings {
    /// Whether trusted proxies describe the original request.
    #[must_use]
    pub fn describes_requests(&self) -> bool {
        self.dialect != Dialect::None
    }

    /// Returns the request behind a check over HTTP, if a trusted proxy describes it.
    #[must_use]
    pub fn original_request<'r>(
        &self,
        peer: IpAddr,
        (method, target): (&'r str, &'r str),
        fields: &'r dyn Fields,
    ) -> Option<OriginalRequest<'r>> {
        let is_described = self.describes_requests() && self.proxies.trusts(peer);
        is_described.then(|| self.dialect.original(method, target, fields)).flatten()
    }

    /// Whether the header line with this name describes the client of a request.
    #[must_use]
    pub fn reads_header(&self, name: &[u8]) -> bool {
        let is_name = |header| is_header(name, header);
        let certificate = self.certificate_header.as_ref().map(|header| &header.name);
        is_name(self.proxies.header()) || certificate.is_some_and(is_name)
    }

    /// Reads the options of one section.
    pub(crate) fn read(reader: &mut SectionReader<'_>) -> Self {
        Self {
            proxies: read_proxies(reader),
            dialect: reader.choice("dialect", &Dialect::ALL, Dialect::name),
            certificate_header: read_certificate_header(reader),
            allows_preflights: read_preflight(reader),
        }
    }
}

/// Reads `client_certificate_header` and `client_certificate_format`.
fn read_certificate_header(reader: &mut SectionReader<'_>) -> Option<CertificateHeader> {
    const OPTION: &str = "client_certificate_format";
    const FORMATS: [Option<CertificateFormat>; 5] = {
        let [pem, base64, rfc9440, xfcc] = CertificateFormat::ALL;
        [None, Some(pem), Some(base64), Some(rfc9440), Some(xfcc)]
    };
    let format =
        reader.choice(OPTION, &FORMATS, |format| format.map_or("auto", CertificateFormat::name));
    let name = reader.certificate_header("client_certificate_header");
    if name.is_none() && format.is_some() {
        let text =
            format!("{OPTION} in {} has no effect without the header's name", reader.section);
        reader.warn(OPTION, text, "set client_certificate_header");
    }
    name.map(|name| CertificateHeader::new(name, format))
}

/// Reads `preflight`. That a request is a preflight can only be learnt from a trusted proxy.
fn read_preflight(reader: &mut SectionReader<'_>) -> bool {
    const OPTION: &str = "preflight";
    let is_allowed =
        reader.choice(OPTION, &[false, true], |allow| if allow { "allow" } else { "refuse" });
    let has_dialect = reader.text_or_default("dialect") != Dialect::None.name()
        || reader.list("protocols").is_some_and(|protocols| protocols.contains(&"spop"));
    let has_proxies = reader.list("trusted_proxies").is_some_and(|proxies| !proxies.is_empty());
    if is_allowed && !(has_dialect && has_proxies) {
        let text = format!(
            "{OPTION} = allow in {} needs a trusted proxy that states the method of requests",
            reader.section
        );
        reader.error(OPTION, text, "also set dialect and trusted_proxies");
    }
    is_allowed
}

/// Reads `trusted_proxies` and `client_address_header`.
fn read_proxies(listen: &mut SectionReader<'_>) -> TrustedProxies {
    let (mut networks, mut unix) = (Vec::new(), false);
    for text in listen.list("trusted_proxies").unwrap_or_default() {
        match Network::parse(text) {
            Ok(network) => {
                if network.is_everything() {
                    warn_of_everything(listen, text);
                }
                networks.push(network);
            }
            Err(_) if text == "unix" => unix = true,
            Err(help) => {
                if let Some(named) = Network::named(text) {
                    networks.extend(named);
                    continue;
                }
                let message = format!(
                    "trusted_proxies in {}: {} is not an address or network",
                    listen.section,
                    quoted(text)
                );
                listen.error("trusted_proxies", message, &help);
            }
        }
    }
    TrustedProxies::new(networks, unix, read_client_header(listen))
}

/// Warns that any client counts as a proxy. It could name any address and certificate as its own.
fn warn_of_everything(listen: &mut SectionReader<'_>, network: &str) {
    let text = format!(
        "trusted_proxies in {}: {network} trusts every client to name its own address and \
         certificate",
        listen.section
    );
    let help = "list the addresses of the proxies alone, not those of their clients";
    listen.risk("trusted_proxies", text, help);
}

fn read_client_header(listen: &mut SectionReader<'_>) -> HeaderName {
    const OPTION: &str = "client_address_header";
    const HELP: &str =
        "name the header that the proxies set, such as X-Forwarded-For, Forwarded or X-Real-IP";
    const DEFAULT: HeaderName = HeaderName::from_static("x-forwarded-for");
    let text = listen.text_or_default(OPTION);
    match HeaderName::from_bytes(text.as_bytes()) {
        Ok(name) => name,
        Err(_) => {
            listen.error(
                OPTION,
                format!(
                    "{OPTION} in {}: {} is not a valid header name",
                    listen.section,
                    quoted(text)
                ),
                HELP,
            );
            DEFAULT
        }
    }
}
