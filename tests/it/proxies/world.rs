use std::net::SocketAddr;

use countersign_tests::{
    binary::{Sandbox, Server},
    eventually,
    http::{Connection, Request, Response},
    proxies::{Application, DaemonProcess, RelayTarget, TcpRelay},
};
use serde_json::{Value, json};

use super::{Addresses, Dialect, Proxy};
use crate::{admission::Issuer, fixture};

/// A proxy between clients, an application, and three Countersign servers. One server has the generic
/// profile. One has the `inmanta` profile, which refuses with 403, and limits sources of bad
/// signatures early. One authorizes requests by route.
pub(super) struct World<'w> {
    pub(super) proxy: &'w Proxy,
    pub(super) address: SocketAddr,
    pub(super) issuer: &'w Issuer,
    pub(super) relay: TcpRelay,
    generic: &'w Server<'w>,
    strict: &'w Server<'w>,
    routed: &'w Server<'w>,
    application: Application,
    _running: DaemonProcess,
}

/// A request to a [`World`], and its effects.
pub(super) struct Exchange {
    /// The answer to the client.
    pub(super) answer: Response,
    /// The requests that Countersign received.
    pub(super) asked: Vec<Request>,
    /// The requests that the application received.
    pub(super) seen: Vec<Request>,
}

/// Sets up a [`World`] and runs `check` in it.
pub(super) fn with_world(proxy: &Proxy, check: impl FnOnce(&mut World<'_>)) {
    let sandboxes = [(); 4].map(|()| Sandbox::new());
    let issuer = Issuer::new("ES512");
    let configuration = |sandbox: &Sandbox, source: &str, listen: &str| {
        let Proxy { dialect, address_header, .. } = proxy;
        let listen = format!(
            "trusted_proxies=127.0.0.1\nclient_address_header={address_header}\n{listen}\n"
        );
        let (listen, listener) = dialect.listeners(&listen);
        let people = format!("key={}\njwt_username_claim=email", fixture::KEY);
        issuer.configuration(sandbox, ["off", "off", source], &listen)
            + &fixture::issuer_section("people", "HS256", PEOPLE, &people)
            + &fixture::issuer_section("down", "RS256", DOWN, "jwks_uri=http://127.0.0.1:9/")
            + "[log]\nformat=json\nrequests=all\n"
            + &listener
    };
    let generic = sandboxes[0].serve(&configuration(&sandboxes[0], "off", ""));
    let strict = sandboxes[1].serve(&configuration(&sandboxes[1], "1", "surface=inmanta"));
    let routed = configuration(&sandboxes[3], "off", "authorization=routes") + ROUTES;
    let routed = sandboxes[3].serve(&routed);
    let (relay, application) = (
        TcpRelay::start(RelayTarget::Server(proxy.dialect.address(&generic))),
        Application::start(),
    );
    let addresses = Addresses::new(relay.address, &application);
    let directory = sandboxes[2].path();
    let running =
        DaemonProcess::start((proxy.command)(directory, &addresses), directory, addresses.proxy);
    let mut world = World {
        proxy,
        address: addresses.proxy,
        issuer: &issuer,
        relay,
        generic: &generic,
        strict: &strict,
        routed: &routed,
        application,
        _running: running,
    };
    world.switch_to_generic();
    check(&mut world);
}

/// The rules of the server that authorizes by route.
const ROUTES: &str = "\
[route_admin]
match=* /admin/*
roles=admin
[route_open]
match=GET /open/*
public=true
[route_page]
match=GET|POST /page, DELETE /page/{id}
";

const PEOPLE: &str = "https://people/";
const DOWN: &str = "https://down/";

impl World<'_> {
    /// Sends exactly these bytes, which are one request, and returns the [`Exchange`].
    pub(super) fn send(&self, request: &str) -> Exchange {
        drop((self.relay.take(), self.application.take()));
        let mut connection = Connection::open(self.address);
        connection.send_raw(request.as_bytes());
        let mut answer = connection.receive(request.starts_with("HEAD "));
        while answer.status == 100 {
            answer = connection.receive(false);
        }
        Exchange { answer, asked: self.relay.take(), seen: self.application.take() }
    }

    /// Sends a request for `/page?x=1` with these further header lines.
    pub(super) fn get(&self, lines: &str) -> Exchange {
        self.send(&format!("GET /page?x=1 HTTP/1.1\r\nHost: shop.example\r\n{lines}\r\n"))
    }

    /// Sends such a request with each of these header lines, all at a time. Returns the answers, and
    /// the requests that the application received.
    pub(super) fn get_all(&self, lines: &[String]) -> (Vec<Response>, Vec<Request>) {
        drop(self.application.take());
        let send = |lines: &String| {
            let mut connection = Connection::open(self.address);
            connection.send_raw(
                format!("GET /page?x=1 HTTP/1.1\r\nHost: shop.example\r\n{lines}\r\n").as_bytes(),
            );
            connection
        };
        let connections: Vec<_> = lines.iter().map(send).collect();
        let answers = connections.into_iter().map(|mut connection| connection.receive(false));
        (answers.collect(), self.application.take())
    }

    /// Sends the same request, and closes Countersign's connections once it has received the auth
    /// request.
    pub(super) fn get_and_hang_up(&mut self, lines: &str) -> Exchange {
        drop((self.relay.take(), self.application.take()));
        let mut connection = Connection::open(self.address);
        connection.send_raw(
            format!("GET /page?x=1 HTTP/1.1\r\nHost: shop.example\r\n{lines}\r\n").as_bytes(),
        );
        let mut asked = Vec::new();
        eventually(|| {
            asked.extend(self.relay.take());
            !asked.is_empty()
        });
        self.relay.retarget(RelayTarget::Refused);
        Exchange { answer: connection.receive(false), asked, seen: self.application.take() }
    }

    /// Returns the requests that the application received since the last call.
    pub(super) fn take_forwarded(&self) -> Vec<Request> {
        self.application.take()
    }

    /// Returns the last access-log entry of the generic server.
    pub(super) fn last_line(&self) -> Option<Value> {
        let log = self.generic.log();
        let lines = log.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .map(|line| line.get("fields").cloned().unwrap_or(line))
            .find(|line| line.get("request_id").is_some())
    }

    /// Switches to the Countersign server with the generic profile.
    pub(super) fn switch_to_generic(&mut self) {
        self.switch_to(self.generic);
    }

    /// Switches to the Countersign server with the `inmanta` profile.
    pub(super) fn switch_to_strict(&mut self) {
        self.switch_to(self.strict);
    }

    /// Switches to the Countersign server that authorizes requests by route.
    pub(super) fn switch_to_routed(&mut self) {
        self.switch_to(self.routed);
    }

    fn switch_to(&mut self, server: &Server<'_>) {
        let address = self.proxy.dialect.address(server);
        self.relay.retarget(RelayTarget::Server(address));
        // A proxy may need a request to notice that its connections have ended.
        eventually(|| self.get(&bearer(&good())).answer.status == 200);
    }
}

impl Exchange {
    /// Returns the last request that Countersign received. A proxy may repeat its auth request.
    #[track_caller]
    pub(super) fn auth_request(&self) -> &Request {
        self.asked.last().expect("Countersign received a request")
    }

    /// Returns the only request that the application received.
    #[track_caller]
    pub(super) fn given(&self) -> &Request {
        assert_eq!(
            self.seen.len(),
            1,
            "the application must receive one request: {:?}",
            self.answer
        );
        &self.seen[0]
    }

    /// Checks that the answer has this status and the application received nothing.
    #[track_caller]
    pub(super) fn assert_refused(&self, status: u16) {
        assert_eq!(self.answer.status, status, "{:?}", self.answer);
        assert!(self.seen.is_empty(), "{:?}", self.seen);
    }
}

impl Dialect {
    /// Returns its option in `[listen]`.
    pub(super) fn option(self) -> &'static str {
        match self {
            Self::Nginx => "dialect=nginx",
            Self::XForwarded => "dialect=x-forwarded",
            Self::EnvoyPath => "dialect=envoy-path",
            Self::Grpc => "protocols=http/1.1, h2",
            Self::Spop => "protocols=spop",
        }
    }

    /// Returns the options of `[listen]`, and the sections of further listeners, for checks with
    /// these options.
    fn listeners(self, options: &str) -> (String, String) {
        let own = format!("{options}{}\n", self.option());
        match self {
            Self::Spop => (options.into(), format!("[listener_spop]\nbind=127.0.0.1:0\n{own}")),
            _ => (own, String::new()),
        }
    }

    /// Returns the address for checks.
    fn address(self, server: &Server<'_>) -> SocketAddr {
        match self {
            Self::Spop => server.spop_address(),
            _ => server.address,
        }
    }

    /// Returns the method and URI of the original request. Checks that no header is repeated.
    #[track_caller]
    pub(super) fn original_request(self, auth_request: &Request) -> (String, String) {
        let only = |name: &str| {
            let lines = auth_request.lines(name);
            assert_eq!(lines.len(), 1, "{name} in {auth_request:?}");
            lines[0].to_owned()
        };
        // With which `Origin` is compared.
        if matches!(self, Self::Nginx | Self::XForwarded) {
            assert_eq!(
                (only("x-forwarded-host").as_str(), only("x-forwarded-proto").as_str()),
                ("shop.example", "http")
            );
        }
        match self {
            Self::Nginx => (only("x-original-method"), only("x-original-uri")),
            Self::XForwarded => (only("x-forwarded-method"), only("x-forwarded-uri")),
            Self::EnvoyPath => {
                let path = auth_request.target.strip_prefix("/auth").expect("a path below /auth");
                (auth_request.method.clone(), path.to_owned())
            }
            Self::Grpc | Self::Spop => (auth_request.method.clone(), auth_request.target.clone()),
        }
    }
}

/// Returns the header line of a bearer token.
pub(super) fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// Returns a good token of a user.
pub(super) fn good() -> String {
    good_but(json!({}))
}

/// Returns a good token with some of its claims replaced or, by null, removed.
pub(super) fn good_but(changes: Value) -> String {
    let person = json!({
        "iss": PEOPLE,
        "aud": "inm",
        "email": "bob@example.com",
        "urn:inmanta:env": "e1",
    });
    let mut claims = fixture::claims(person);
    claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    fixture::token(&claims)
}

/// Returns a token of an issuer whose keys are unavailable.
pub(super) fn token_without_keys() -> String {
    fixture::token_with_header(&json!({ "alg": "RS256", "kid": "k" }), &fixture::claims_of(DOWN))
}
