use std::net::IpAddr;

use http::{HeaderMap, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use rustls::pki_types::CertificateDer;

use super::*;
use crate::{
    client::{
        certificate::{CertificateFormat, first_in_pem},
        original_request::Dialect,
        trusted_proxies::{Network, TrustedProxies},
    },
    tls::settings::ClientAuthorities,
};

const PEM: &str = include_str!("../../../client/certificate/client.pem");
const HEADER: &str = "x-identity-tls-cert-auth-client-cert";
const PROXY: [u8; 4] = [10, 0, 0, 1];
const CLIENT: [u8; 4] = [192, 0, 2, 1];

fn client_settings() -> ClientSettings {
    let networks = vec![Network::parse("10.0.0.0/8").unwrap()];
    let header = HeaderName::from_static("x-forwarded-for");
    ClientSettings {
        proxies: TrustedProxies::new(networks, false, header),
        dialect: Dialect::None,
        certificate_header: None,
        allows_preflights: false,
    }
}

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let name = HeaderName::try_from(*name).unwrap();
        headers.append(name, HeaderValue::try_from(*value).unwrap());
    }
    headers
}

/// Returns the chain of a request from this address.
fn present(
    requested: &ClientCertificates,
    address: impl Into<IpAddr>,
    certificates: &[CertificateDer<'static>],
    lines: &[(&str, &str)],
) -> Result<PresentedChain, PresentationError> {
    let peer = Peer { address: address.into(), listener: 0, certificates, tls: None };
    let (client, settings) = (client_settings(), TlsCertAuthSettings::default());
    let source = CertificateSource { peer, client: &client, requested, settings: &settings };
    source.presented_certificate(&headers(lines))
}

fn escaped() -> String {
    percent_encode(PEM.as_bytes(), NON_ALPHANUMERIC).to_string()
}

#[test]
fn header_counts_from_trusted_proxies_only() {
    let off = ClientCertificates::Off;
    let value = escaped();
    let line = [(HEADER, value.as_str())];
    assert!(present(&off, PROXY, &[], &line).is_ok());
    assert_eq!(present(&off, CLIENT, &[], &line), Err(PresentationError::UntrustedPeer));
    // Even an empty header of a client is not ignored.
    assert_eq!(present(&off, CLIENT, &[], &[(HEADER, "")]), Err(PresentationError::UntrustedPeer));
    for address in [PROXY, CLIENT] {
        assert_eq!(present(&off, address, &[], &[]), Err(PresentationError::Missing));
    }
    assert_eq!(present(&off, PROXY, &[], &[(HEADER, " ")]), Err(PresentationError::Missing));
    let twice = [line[0], line[0]];
    assert_eq!(present(&off, PROXY, &[], &twice), Err(PresentationError::Duplicate));
    let malformed = present(&off, PROXY, &[], &[(HEADER, "%zz")]);
    assert_eq!(malformed, Err(PresentationError::Malformed(ChainError::BadEscape)));
}

#[test]
fn header_is_ignored_where_tls_requests_certificates() {
    let authorities = ClientAuthorities { file: "ca".into(), revoked: Vec::new() };
    let own = [CertificateDer::from(vec![1])];
    let value = escaped();
    let line = [(HEADER, value.as_str())];
    for requested in [
        ClientCertificates::Possession,
        ClientCertificates::Optional(authorities.clone()),
        ClientCertificates::Required(authorities),
    ] {
        let chain = present(&requested, CLIENT, &own, &line);
        assert_eq!(chain, Ok(PresentedChain::of_handshake(&own).unwrap()), "{requested:?}");
        let without = present(&requested, CLIENT, &[], &line);
        assert_eq!(without, Err(PresentationError::Missing), "{requested:?}");
    }
}

#[test]
fn certificate_of_a_proxy_is_not_its_clients() {
    let authorities = ClientAuthorities { file: "ca".into(), revoked: Vec::new() };
    let own = [CertificateDer::from(vec![1])];
    let value = escaped();
    let line = [(HEADER, value.as_str())];
    let possession = present(&ClientCertificates::Possession, PROXY, &own, &line);
    assert_eq!(possession, Err(PresentationError::ProxyConnection));
    let required = ClientCertificates::Required(authorities);
    let chain = present(&required, PROXY, &own, &line).unwrap();
    assert_eq!(chain.leaf(), first_in_pem(PEM.as_bytes()));
    assert_eq!(present(&required, PROXY, &own, &[]), Err(PresentationError::Missing));
    // A peer with the address of a proxy, which has proven nothing.
    assert_eq!(present(&required, PROXY, &[], &line), Err(PresentationError::Missing));
    assert_eq!(
        present(&ClientCertificates::Off, PROXY, &own, &[]),
        Err(PresentationError::Missing)
    );
}

#[test]
fn chain_header_is_read_for_rfc_9440_only() {
    let base64 = PEM.lines().filter(|line| !line.starts_with("-----")).collect::<String>();
    let value = format!(":{base64}:");
    let fields = headers(&[("client-cert", &value), ("Client-Cert-Chain", &value)]);
    let client = client_settings();
    let peer = Peer { address: PROXY.into(), listener: 0, certificates: &[], tls: None };
    let count = |format, fields: &HeaderMap| {
        let settings = TlsCertAuthSettings::new(HeaderName::from_static("client-cert"), format);
        let requested = &ClientCertificates::Off;
        let source = CertificateSource { peer, client: &client, requested, settings: &settings };
        source.presented_certificate(fields).unwrap().others().unwrap().len()
    };
    assert_eq!(count(CertificateFormat::Rfc9440, &fields), 1);
    let mut fields = fields;
    fields.append("client-cert-chain", HeaderValue::from_static(""));
    fields.append("client-cert-chain", HeaderValue::from_str(&format!("{value},{value}")).unwrap());
    assert_eq!(count(CertificateFormat::Rfc9440, &fields), 3, "a list may have several lines");
    let fields = headers(&[("client-cert", &base64), ("Client-Cert-Chain", &base64)]);
    assert_eq!(count(CertificateFormat::Base64Der, &fields), 0);
}
