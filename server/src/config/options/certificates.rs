//! Options of logins with client certificates.

use super::{SectionSpec, TLS_CERT_AUTH_SECTION, choice, list, text};

pub(super) const TLS_CERT_AUTH: SectionSpec = SectionSpec::new(
    TLS_CERT_AUTH_SECTION,
    "The certificates of machine identities that log in. A listener that requests them in the TLS \
     handshake (`client_certificates`) reads no header.",
    &[&[
        text("certificate_header", "header name", "X-Identity-TLS-Cert-Auth-Client-Cert").about(
            "Header in which trusted proxies pass on the client's certificate. From other peers it \
             is refused. Variable: `IDENTITY_TLS_CERT_AUTH_CLIENT_CERTIFICATE_HEADER_KEY`.",
            "X-Client-Cert",
        ),
        choice(
            "certificate_format",
            &["percent-encoded-pem", "base64-der", "rfc9440", "xfcc"],
            "percent-encoded-pem",
        )
        .about(
            "Format of the header: percent-encoded PEM (nginx, AWS), base64 of DER (Traefik), \
             `Client-Cert` of RFC 9440 with the chain in the header of that name and `-Chain` \
             (HAProxy, Caddy), or `X-Forwarded-Client-Cert` of Envoy.",
            "xfcc",
        ),
        list("crl_file", "path", "").about(
            "Certificate revocation lists of version 2 in PEM or DER, which are read again within \
             four seconds of a change. They are checked along the whole path. Of several lists of \
             an authority, that is of its key, the newest counts. Certificates of an authority \
             without a list are not checked; those of one whose newest list has expired are \
             refused.",
            "/etc/countersign/machines.crl",
        ),
    ]],
);
