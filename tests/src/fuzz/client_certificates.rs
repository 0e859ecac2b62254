//! Client certificates in headers, and against the rules of an identity.

use std::sync::{Arc, OnceLock};

use countersign_engine::UnixTime;
use countersign_server::{
    client::certificate::{self, MAX_CERTIFICATES, MAX_VALUE_BYTES},
    identities::certificate::{CertificateFormat, CertificateRules, IssuingCa, PresentedChain},
};
use rustls::pki_types::CertificateDer;

/// An authority with name constraints, an intermediate authority, and a client certificate of
/// each. Their keys are Ed25519, whose signatures have one encoding, and were not kept.
const AUTHORITY: &str = include_str!("client_certificates/ca.pem");
const MIDDLE: &[u8] = include_bytes!("client_certificates/middle.der");
const DIRECT: &[u8] = include_bytes!("client_certificates/direct.der");
const INDIRECT: &[u8] = include_bytes!("client_certificates/indirect.der");

/// A time at which all of them are valid.
const NOW: UnixTime = UnixTime(1_900_000_000);

/// Fuzz target: any bytes as the header of a trusted proxy. The first byte selects the format, and
/// a line end separates the second header of RFC 9440.
pub fn certificate_header(data: &[u8]) {
    let Some((format, value)) = data.split_first() else { return };
    let format = CertificateFormat::ALL[usize::from(*format) % CertificateFormat::ALL.len()];
    let mut values = value.splitn(2, |byte| *byte == b'\n');
    let (value, rest) = (values.next().unwrap_or_default(), values.next());
    let parsed = PresentedChain::parse(format, value, rest);
    assert_eq!(parsed, PresentedChain::parse(format, value, rest), "parsing is deterministic");
    let bound = certificate::parse(value);
    let Ok(chain) = parsed else { return };
    assert!(value.len() <= MAX_VALUE_BYTES);
    let others = chain.others().map_or(0, |others| others.len());
    assert!(others < MAX_CERTIFICATES, "{others} certificates");
    let Some(leaf) = chain.leaf() else { return };
    // The parser for tokens that are bound to a certificate reads the same one, if it reads any.
    let reads_format =
        matches!(format, CertificateFormat::PercentEncodedPem | CertificateFormat::Base64Der);
    if let (true, Some(bound)) = (reads_format, bound) {
        assert_eq!(bound, leaf, "two readers understand a header differently");
    }
}

/// Fuzz target: any certificates against the rules of an identity. The first byte selects whether
/// intermediate authorities are allowed; each certificate follows its length in two bytes.
pub fn certificate_rules(data: &[u8]) {
    let Some((mode, mut rest)) = data.split_first() else { return };
    let mut certificates: Vec<CertificateDer<'static>> = Vec::new();
    while let Some((length, following)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(following.len());
        let (certificate, following) = following.split_at(length);
        certificates.push(certificate.to_vec().into());
        rest = following;
    }
    let Some(chain) = PresentedChain::of_handshake(&certificates) else { return };
    let rules = CertificateRules { verify_chain: mode % 2 == 1, ..rules().clone() };
    if rules.check(&chain, NOW).is_ok() {
        let has_middle = certificates.iter().any(|certificate| &**certificate == MIDDLE);
        let is_known = match &*certificates[0] {
            DIRECT => true,
            INDIRECT => rules.verify_chain && has_middle,
            _ => false,
        };
        assert!(is_known, "a certificate was accepted that the authority did not sign");
    }
    // The first one as the authority of an identity.
    let pem = pem(&certificates[0]);
    if let Ok(ca) = IssuingCa::parse(&pem) {
        let _usable = ca.check_usable(NOW);
        let _accepted = CertificateRules { ca, ..rules }.check(&chain, NOW);
    }
}

fn rules() -> &'static CertificateRules {
    static RULES: OnceLock<CertificateRules> = OnceLock::new();
    RULES.get_or_init(|| {
        let ca = IssuingCa::parse(AUTHORITY).unwrap();
        let rules = CertificateRules {
            ca,
            verify_chain: false,
            common_names: None,
            subject_alt_names: None,
            revoked: Arc::default(),
        };
        let chain = |all: &[&[u8]]| {
            let all: Vec<_> = all.iter().map(|der| der.to_vec().into()).collect();
            PresentedChain::of_handshake(&all).unwrap()
        };
        // The good certificates are accepted, so that the target does not hold vacuously.
        assert_eq!(rules.check(&chain(&[DIRECT]), NOW), Ok(()));
        let with_chains = CertificateRules { verify_chain: true, ..rules.clone() };
        assert_eq!(with_chains.check(&chain(&[INDIRECT, MIDDLE]), NOW), Ok(()));
        rules
    })
}

fn pem(der: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(der))
}
