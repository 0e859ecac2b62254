//! Integration tests: the real binary, driven from outside, one module per topic.

/// Signing tokens and the claims it refuses: `token`, `jws`, `key`.
mod cli;
/// Configuration and its mistakes: `config check`.
mod config;
/// The configurations of Inmanta's guides, the current one and the older one.
mod eras;
/// Starting without a configuration, as the README promises.
mod embedded;
mod embedding;
/// Command blocks, configurations and proxy files of the documentation.
mod docs;
/// `/auth`, the route for reverse proxies.
mod forward_auth;
/// Where a token is: headers, cookies, and requests of other sites.
mod credentials;
/// Headers with further claims: `[identity_headers] claim.<path>`.
mod claim_headers;
/// Metadata of the protected resource (RFC 9728), and the challenges that name it.
mod resource_metadata;
/// Envoy's external authorization over gRPC, and gRPC health checks.
mod ext_authz;
/// HAProxy's checks over SPOP.
mod spop;
/// Who may make which request: `authorization`, `[route_<name>]`, `[endpoints]`.
mod authorization;
/// Budgets for bad signatures, per source, issuer and core.
mod admission;
/// The cache of verification results: `[cache]`.
mod caching;
/// Rules by route: `[route_<name>]`, `countersign routes explain`.
mod routes;
/// Tenants and API keys, as Orchestrate has them: `[multi_tenancy]`, `AUTH_API_KEY`.
mod orchestrate;
/// Real reverse proxies in front of Countersign.
mod provider_rules;
mod proxies;
/// HTTP/3 and QUIC.
mod http3;
/// Recordings of the real Inmanta server.
mod inmanta;
/// The state of the issuers' keys: metrics, `/keys`, `countersign keys status`.
mod key_status;
/// Revocation: authorization, scope and durability.
mod revocation;
/// Databases at rest and in copies: stop, backup, restore.
mod backup;
/// Import of the database of an Inmanta server.
mod import;
/// Databases that lack what the state directory knew.
mod known_databases;
/// Check and repair of stored revocations.
mod repair;
/// Load tests: `countersign serve --profile loadtest`, and the scripts of `deploy/loadtest`.
mod load_test;
/// Wrong clocks and restored databases.
mod clock;
/// Full disks, partitions, and other faults of the machine and the network.
mod faults;
/// Rotation of the key that signs: `keys rotate`.
mod signing_keys;
/// Keys from files and providers.
mod keys;
/// Static keys: `key`, `key_file`.
mod static_keys;
/// Encodings of shared secrets: `key_encoding`.
mod key_encoding;
/// The commands that call a running server: their requests and their output.
mod remote;
/// Refresh of published keys, and how long they are used.
mod rotation;
/// Tokens with an unknown `kid`: which are rejected, and which cannot be judged.
mod unknown_kid;
/// Key sets that are kept for a restart.
mod stored_keys;
/// Fetches of keys that an operator requests.
mod refresh;
/// Providers that are broken, slow or hostile, and trust in them by TLS.
mod bad_providers;
/// How keys are requested: content codings, and the bearer token of a provider.
mod fetching;
/// A certified OpenID provider.
mod openid;
/// Signing in to the console with a certified OpenID provider.
mod openid_sign_in;
/// Servers without a section that signs.
mod verify_only;
/// `countersign cert self-signed`.
mod self_signed;
/// Starting, stopping and probes.
mod operations;
/// The log: formats, access-log entries, and secrets that must not appear.
mod logs;
/// Keys and tokens in the wrong place, and messages that must not show them.
mod secrets;
/// `/metrics`: valid, complete, and correct under load.
mod metrics;
/// The log of the first start after an upgrade.
mod upgrading;
/// Reload of the configuration while the server runs.
mod reload;
/// systemd: notifications, socket activation, and the shipped units.
mod systemd;
/// The manifests for Kubernetes.
mod kubernetes;
/// The file system of the container image.
mod container;
/// Three servers and one database, behind a pooler too.
mod cluster;
/// HTTP/1: limits, timeouts, malformed requests, and trust in peers.
mod hardening;
/// TLS: negotiation, resumption, and client certificates.
mod tls;
/// One table of requests, with equal answers over HTTP/1, 2 and 3.
mod every_version;
/// HTTP/2: frames, streams, and protocol selection.
mod http2;
/// HTTP/3 with independent clients.
mod http3_clients;
/// `POST /v1/verify`.
mod verify;
/// Who may administer: `administers`, and the limits of issued tokens.
mod administration;
/// The audit log, and `countersign audit`.
mod audit;
/// Users, sessions, roles and tokens by the Inmanta API.
mod users;
/// The web console: sign-in, sessions and pages.
mod console;
/// The Admin API.
mod admin_api;
/// Machine identities and their access tokens.
mod identities;
/// Tokens bound to a client certificate.
mod bound;
/// Client certificates whose authority is not known.
mod possession;
/// Which tokens a section accepts by default: expiry, clock difference, username.
mod token_rules;
/// Behaviours of the real system, by their numbers.
mod behaviours;
/// Tokens and configurations shared by the modules.
mod fixture;
