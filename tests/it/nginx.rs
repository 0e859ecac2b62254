use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    process::{Child, Command},
    sync::{Arc, Mutex},
    time::Duration,
};

use countersign_tests::{
    binary::Sandbox,
    http::{Response, request},
    openssl::SigningKey,
};
use serde_json::{Value, json};

use crate::{admission::Issuer, given};

/// An application that remembers the requests it saw and answers `hello`.
struct Application {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Application {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let application = Self { address: listener.local_addr().unwrap(), seen: Arc::default() };
        let seen = Arc::clone(&application.seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut reader = BufReader::new(stream);
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).is_ok_and(|read| read > 0) {}
                let lower = head.to_lowercase();
                let length = lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                let mut body = vec![0; length.unwrap_or(0)];
                reader.read_exact(&mut body).unwrap();
                seen.lock().unwrap().push(lower + &String::from_utf8(body).unwrap());
                drop(reader.get_mut().write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"));
            }
        });
        application
    }

    fn last(&self) -> String {
        self.seen.lock().unwrap().pop().unwrap()
    }
}

struct Nginx(Child, SocketAddr);

impl Nginx {
    /// Starts nginx with the shipped configuration, its addresses replaced.
    fn start(sandbox: &Sandbox, countersign: SocketAddr, application: SocketAddr) -> Self {
        let shipped = include_str!("../../deploy/proxies/nginx.conf");
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let servers = shipped
            .replace("127.0.0.1:8888", &countersign.to_string())
            .replace("127.0.0.1:8080", &application.to_string())
            .replace("127.0.0.1:8000", &address.to_string());
        let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {}/{kind};\n", sandbox.path().display()))
            .concat();
        let main = format!(
            "daemon off;\nerror_log {0}/nginx.log;\npid {0}/nginx.pid;\nevents {{}}\nhttp {{\naccess_log off;\n{paths}\n{servers}\n}}\n",
            sandbox.path().display()
        );
        let file = sandbox.file("nginx.conf", main);
        let child = Command::new("nginx").arg("-c").arg(file).spawn().expect("nginx is missing: apt-get install nginx-light");
        // Made at once, so that it is ended whatever happens next.
        let nginx = Self(child, address);
        for _ in 0..200 {
            if std::net::TcpStream::connect(address).is_ok() {
                return nginx;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!("nginx did not start: {}", std::fs::read_to_string(sandbox.path().join("nginx.log")).unwrap_or_default())
    }

    fn get(&self, lines: &str) -> Response {
        request(self.1, &format!("GET /page?x=1 HTTP/1.1\r\nConnection: close\r\n{lines}"), b"")
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The master process ends its workers when it is asked, not when it is killed.
        drop(Command::new("kill").arg(self.0.id().to_string()).status());
        drop(self.0.wait());
    }
}

fn claims(changes: Value) -> Value {
    let mut claims = json!({ "iss": "https://idp/", "aud": "inm", "sub": "bob", "email": "bob@example.com" });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

#[test]
fn nginx_lets_good_tokens_of_openssl_pass_and_no_others() {
    let (rsa, stranger) = (SigningKey::generate("RS256", "k1"), SigningKey::generate("RS256", "k1"));
    let sandbox = Sandbox::new();
    let jwks = sandbox.file("jwks.json", json!({ "keys": [rsa.jwk()] }).to_string());
    let oidc = format!(
        "[auth_jwt_oidc]\nalgorithm=RS256\nclient_types=api\nissuer=https://idp/\naudience=inm\njwks_uri=file://{}\njwt_username_claim=email\n\
         [auth_jwt_down]\nalgorithm=RS256\nclient_types=api\nissuer=https://down/\naudience=inm\njwks_uri=http://127.0.0.1:9/\n",
        jwks.display()
    );
    let server = sandbox.serve(&format!("{}{oidc}", given::SIGNING));
    let application = Application::start();
    let nginx = Nginx::start(&sandbox, server.address, application.address);
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");

    // Allowed: the identity reaches the application, the client's own claims to one do not.
    let forged = "X-Auth-User: root\r\nX-Auth-Subject: root\r\nX-Auth-Tenant: root\r\n";
    let allowed = nginx.get(&format!("{}{forged}", bearer(&rsa.token(&claims(json!({}))))));
    assert_eq!((allowed.status, allowed.body.as_str()), (200, "hello"));
    let seen = application.last();
    for line in [
        "get /page?x=1 http",
        "x-auth-subject: bob\r\n",
        "x-auth-user: bob@example.com\r\n",
        "x-auth-issuer: https://idp/\r\n",
        "x-auth-client-types: api\r\n",
    ] {
        assert!(seen.contains(line), "{line} is not in {seen}");
    }
    assert!(!seen.contains("root"), "{seen}");

    // A body passes through untouched.
    let head = format!("POST /form HTTP/1.1\r\nConnection: close\r\n{}", bearer(&rsa.token(&claims(json!({})))));
    assert_eq!(request(nginx.1, &head, b"name=value").status, 200);
    assert!(application.last().ends_with("name=value"));

    // Refused: missing, malformed, expired, of a stranger, for another audience.
    let missing = nginx.get("");
    assert_eq!((missing.status, missing.header("www-authenticate")), (401, Some("Bearer")));
    for token in [
        "abc".to_owned(),
        rsa.token(&claims(json!({ "exp": 1 }))),
        stranger.token(&claims(json!({}))),
        rsa.token(&claims(json!({ "aud": "other" }))),
        rsa.token(&claims(json!({ "iss": given::ISSUER }))),
    ] {
        let refused = nginx.get(&bearer(&token));
        assert_eq!(refused.status, 401, "{token}");
        assert!(refused.header("www-authenticate").unwrap().contains("invalid_token"));
    }

    // Keys unavailable: the client learns that it is not its fault.
    let unavailable = nginx.get(&bearer(&rsa.token(&claims(json!({ "iss": "https://down/" })))));
    assert_eq!((unavailable.status, unavailable.header("retry-after")), (503, Some("5")));
    assert!(application.seen.lock().unwrap().is_empty(), "nothing refused reached the application");
}

#[test]
fn e1_nginx_tells_whose_flood_it_is_whatever_the_client_says() {
    let (sandbox, issuer) = (Sandbox::new(), Issuer::new("ES512"));
    let server = sandbox.serve(&issuer.configuration(&sandbox, ["off", "off", "1"], "trusted_proxies=127.0.0.0/8"));
    let application = Application::start();
    let nginx = Nginx::start(&sandbox, server.address, application.address);
    let mut answers = (0..1000).map(|number| {
        let invented = format!("X-Forwarded-For: 10.0.{}.{}\r\n", number / 256, number % 256);
        nginx.get(&format!("{invented}Authorization: Bearer {}\r\n", issuer.forged(number)))
    });
    let put_off = answers.find(|answer| answer.status != 401).expect("all of them were checked");
    assert_eq!((put_off.status, put_off.header("retry-after")), (429, Some("1")));
}

#[test]
fn nginx_keeps_its_connection_because_answers_have_no_body() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(given::SIGNING);
    let application = Application::start();
    let nginx = Nginx::start(&sandbox, server.address, application.address);
    let head = format!("Authorization: Bearer {}\r\n", given::good_token());
    for _ in 0..30 {
        assert_eq!(nginx.get(&head).status, 200);
        assert_eq!(nginx.get("").status, 401);
    }
    // The connections from nginx to us, as the system lists them.
    let port = format!("{:04X}", server.address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let ours: Vec<_> =
        table.lines().filter(|line| line.split_whitespace().nth(1).is_some_and(|local| local.ends_with(&port))).collect();
    let established = ours.iter().filter(|line| line.split_whitespace().nth(3) == Some("01")).count();
    let closed = ours.iter().filter(|line| line.split_whitespace().nth(3) == Some("06")).count();
    assert!(established >= 1 && established + closed <= 4, "{established} open, {closed} closed");
}
