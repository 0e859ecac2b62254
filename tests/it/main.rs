//! Integration tests: the real binary, driven from outside, one module a topic.

/// Signing and the claims that signing refuses; `token`, `jws`, `key`.
mod cli;
/// What a configuration means and what is wrong with it; `config check`.
mod config;
/// The configurations of Inmanta's guides, the current one and the older one.
mod eras;
/// `countersign corpus`: the tokens, and the server they are for.
mod corpus;
/// Starting without a configuration, and the README's promises about it.
mod embedded;
/// `/auth`: what reverse proxies rely on.
mod forward_auth;
/// Envoy's questions over gRPC, and the server's health over the same.
mod ext_authz;
/// What floods of bad signatures may cost, and whom.
mod admission;
/// What the server remembers of tokens: `[cache]`.
mod remembering;
/// Real reverse proxies in front.
mod proxies;
/// Recordings of the real Inmanta server.
mod http3;
mod inmanta;
/// How the issuers' keys stand: metrics, `/keys`, `countersign keys status`.
mod key_status;
/// Revoking tokens: who may, what it covers, and that it is never lost.
mod revocation;
/// Where keys come from.
mod keys;
/// Keys that the operator writes down: `key`, `key_file`.
mod written_keys;
/// The commands that talk to a running server: what they ask, and what they say.
mod remote;
/// When published keys are asked for again, and how long they are good.
mod rotation;
/// Providers that are broken, slow or hostile, and whom to trust by TLS.
mod bad_providers;
/// A certified OpenID provider.
mod openid;
/// Starting, stopping and probes.
mod operations;
/// The log: its forms, the lines of requests, and what is in none of them.
mod logs;
/// `/metrics`: valid, complete, and right under load.
mod metrics;
/// A configuration that changes while the server runs.
mod reload;
/// The service manager: what it is told, sockets that it has opened, its units.
mod systemd;
/// What connections may cost and what they may claim, whoever is at their other end.
mod hardening;
/// TLS: what is agreed on, resumption, clients' certificates.
mod tls;
/// HTTP/2: frames, streams, and who speaks it.
mod http2;
/// HTTP/3 with clients that nobody here has written.
mod http3_clients;
/// `POST /v1/verify`.
mod verify;
/// Users of our own, their sessions, roles and tokens, by the Inmanta API.
mod users;
/// Behaviours of the real system, by their numbers.
mod behaviours;
/// Tokens and configurations that several topics use.
mod given;
