//! Options of listeners, of metrics and of QUIC.

use super::{LISTENER_PREFIX, OptionSpec, SectionSpec, choice, flag, list, number, text};

pub(super) const LISTEN: SectionSpec = SectionSpec::new(
    "listen",
    "The main listener, whose addresses and certificate are in `[server]`.",
    &[
        &[
            number("threads", 1, 1024, "")
                .unset("one per core")
                .restart()
                .about("Number of threads that serve requests.", "4"),
            SERVES,
        ],
        REQUESTS,
    ],
);

pub(super) const LISTENER: SectionSpec = SectionSpec {
    name: LISTENER_PREFIX,
    variable: "<name>",
    about: "An additional listener.",
    groups: &[
        &[
            list("bind", "address with port or unix:/path", "")
                .required()
                .restart()
                .about("Addresses of the listener.", "127.0.0.1:9000, unix:/run/countersign.sock"),
            text("mode", "octal number", "0660").restart().about(
                "Mode of the files of its Unix sockets. Clients need write permission. Sockets \
                 passed by systemd have that of their unit.",
                "0600",
            ),
            text("group", "name or number", "")
                .unset("that of the process")
                .restart()
                .about("Group of the files of its Unix sockets.", "www-data"),
            SERVES,
        ],
        CERTIFICATE,
        REQUESTS,
    ],
};

const SERVES: OptionSpec =
    choice("serves", &["everything", "auth", "operations"], "everything").restart().about(
        "Routes of the listener: all, `/auth` and probes only, or metrics, key status and probes.",
        "auth",
    );

/// Options that switch TLS on.
pub(super) const CERTIFICATE: &[OptionSpec] = &[
    text("ssl_cert_file", "path", "").unset("no TLS").about(
        "Certificate of the server and its intermediate certificates in PEM. With \
             `ssl_key_file`, it switches TLS on.",
        "/etc/countersign/server.crt",
    ),
    text("ssl_key_file", "path", "").unset("no TLS").about(
        "Private key of the certificate in PEM, unencrypted.",
        "/etc/countersign/server.key",
    ),
];

/// Options of every listener for requests.
const REQUESTS: &[OptionSpec] = &[
    list("protocols", "http/1.1, h2 or h3; or spop", "").unset("http/1.1, and h2 with TLS").about(
        "HTTP versions. Clients select `h2` by ALPN, or without TLS by prior knowledge; `h3` \
             uses the UDP port of the same number and requires TLS. Or `spop` alone, for checks by \
             HAProxy, in a `[listener_<name>]`.",
        "http/1.1, h2, h3",
    ),
    choice("surface", &["generic", "inmanta", "orchestrate"], "generic").about(
        "System whose credentials and refusals `/auth` has. `orchestrate` also takes API keys, and \
         each request acts for a tenant (`[multi_tenancy]`).",
        "inmanta",
    ),
    choice("authorization", &["none", "routes", "legacy", "policy-engine"], "none").about(
        "Whether a verified token allows a request: always, by the rules of `[route_<name>]`, by \
         client type and environment, or by the policy. All but `none` need trusted proxies that \
         describe the request.",
        "legacy",
    ),
    list("trusted_proxies", "address, network or name", "").about(
        "Proxies whose headers about the client are trusted. `unix` stands for every peer on a \
         Unix socket; `loopback`, `linklocal` and `uniquelocal` for the networks of these names. \
         Variable of the main listener: `TRUSTED_PROXY_CIDRS`.",
        "10.0.0.0/8, unix",
    ),
    text("client_address_header", "header name", "X-Forwarded-For").about(
        "Header in which trusted proxies name the client's address. `Forwarded` is read by \
             RFC 7239, and any other as a list of addresses.",
        "X-Real-IP",
    ),
    text("client_certificate_header", "header name", "").unset("none").about(
        "Header in which trusted proxies pass on the client's certificate, to which its token may \
         be bound.",
        "X-Client-Cert",
    ),
    choice(
        "client_certificate_format",
        &["auto", "percent-encoded-pem", "base64-der", "rfc9440", "xfcc"],
        "auto",
    )
    .about(
        "Format of that header, as `certificate_format` of `[tls_cert_auth]`. `auto` stands for \
         `xfcc` in `X-Forwarded-Client-Cert`, and in other headers for any of the other formats.",
        "xfcc",
    ),
    choice("dialect", &["none", "nginx", "x-forwarded", "envoy-path"], "none").about(
        "Form in which trusted proxies describe the original request: `X-Original-*` (`nginx`), \
         `X-Forwarded-*` (`x-forwarded`), or the check's own method and its path below `/auth` \
         (`envoy-path`). Checks over gRPC and SPOP have a form of their own.",
        "nginx",
    ),
    choice("preflight", &["refuse", "allow"], "refuse").about(
        "Whether CORS preflights need no token: requests with the method OPTIONS, `Origin` and \
         `Access-Control-Request-Method`. Requires `trusted_proxies`, and `dialect` or `spop`.",
        "allow",
    ),
    list("open_paths", "path", "").about(
        "Paths that need no token, for GET and HEAD: a `public` route before all others, whatever \
         decides about other requests. See `match` of `[route_<name>]` for their form.",
        "/healthz, /static/*",
    ),
    flag("proxy_protocol", "false").about(
        "Whether connections of trusted proxies start with a PROXY header, version 1 or 2.",
        "true",
    ),
    choice("client_certificates", &["off", "possession", "optional", "required"], "off").about(
        "Whether clients present a certificate in the TLS handshake. `possession` requests one and \
         checks only that the client has its key. Such a certificate identifies no client, except \
         at the login of machine identities; tokens may be bound to it.",
        "required",
    ),
    text("client_ca_file", "path", "").unset("none").about(
        "Certificates of the authorities of client certificates, in PEM.",
        "/etc/countersign/clients-ca.pem",
    ),
    list("client_crl_file", "path", "").about(
        "Certificate revocation lists of these authorities, in PEM or DER. With any list, every \
         authority needs one. Of several lists of an authority, the newest counts.",
        "/etc/countersign/clients.crl",
    ),
];

pub(super) const METRICS: SectionSpec = SectionSpec::new(
    "metrics",
    "The listener for metrics, key status and probes. It requires no token, so bind it to a \
     private address.",
    &[&[
        text("bind_address", "IP address", "127.0.0.1")
            .restart()
            .about("Address of the listener.", "10.0.0.5"),
        number("bind_port", 0, u16::MAX as u64, "8082")
            .restart()
            .about("Port of the listener. 0 for a free port.", "8082"),
        flag("orchestrate_names", "false").restart().about(
            "Whether requests are also counted with the names and labels of Orchestrate's metrics, \
             such as `orchestrate_http_requests`.",
            "true",
        ),
        number("orchestrate_tenants", 0, 1000, "0").restart().about(
            "Number of tenants that have a label of their own in these metrics: the first ones of \
             allowed requests. The label of all others is `_`.",
            "50",
        ),
    ]],
);

pub(super) const QUIC: SectionSpec = SectionSpec::new(
    "quic",
    "Settings of all listeners with HTTP/3.",
    &[&[
        text("key_file", "path", "").unset("a key of this process").restart().about(
            "File with a secret of 32 bytes or more that nodes behind one address share, for \
                 address validation and stateless resets.",
            "/etc/countersign/quic.key",
        ),
        number("retry_above", 0, 1 << 20, "256").restart().about(
            "Number of open handshakes per thread above which further clients must validate their \
             address first.",
            "64",
        ),
    ]],
);
