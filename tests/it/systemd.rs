use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    net::{TcpListener, TcpStream, UdpSocket},
    os::{
        fd::OwnedFd,
        unix::net::{UnixDatagram, UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use countersign_tests::{
    binary::{self, Sandbox},
    eventually,
    http::Connection,
};

use crate::given::{self, SIGNING};

/// Waits for what systemd is told next.
fn told(manager: &UnixDatagram) -> String {
    let mut message = [0; 256];
    let length = manager.recv(&mut message).expect("systemd is told nothing");
    String::from_utf8(message[..length].into()).unwrap()
}

/// When a reload began, in microseconds of the monotonic clock.
fn reload_began(manager: &UnixDatagram) -> u64 {
    let message = told(manager);
    let moment = message
        .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
        .and_then(|rest| rest.trim_end().parse().ok());
    moment.unwrap_or_else(|| panic!("{message:?}"))
}

#[test]
fn it_is_told_of_every_change() {
    let sandbox = Sandbox::new();
    let manager = UnixDatagram::bind(sandbox.path().join("notify")).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let path = sandbox.path().join("notify").to_str().unwrap().to_owned();
    let sandbox = sandbox.variable("NOTIFY_SOCKET", &path);
    let server = sandbox.serve(SIGNING);
    assert_eq!(told(&manager), "READY=1\n");
    assert_eq!(server.auth(&given::good_token()).status, 200);
    server.signal("HUP");
    let first = reload_began(&manager);
    assert_eq!(told(&manager), "READY=1\n");
    // A mistake, found without a signal: the reload ends all the same.
    sandbox.replace("server.cfg", "[server]\nauth=perhaps\n");
    assert!(reload_began(&manager) > first);
    assert_eq!(told(&manager), "READY=1\n");
    eventually(|| server.log().contains("Not a boolean: perhaps"));
    server.signal("TERM");
    assert_eq!(told(&manager), "STOPPING=1\n");
}

#[test]
fn nobody_to_tell_is_no_reason_not_to_serve() {
    let sandbox = Sandbox::new().variable("NOTIFY_SOCKET", "/nowhere/notify");
    let server = sandbox.serve(SIGNING);
    assert_eq!(server.auth(&given::good_token()).status, 200);
    assert!(server.log().contains("the service manager could not be told"), "{}", server.log());
}

/// Sockets as systemd would have opened them, and the configuration for them.
struct Sockets {
    web: TcpListener,
    local: UnixListener,
    path: PathBuf,
    configuration: String,
}

impl Sockets {
    fn open(sandbox: &Sandbox) -> Self {
        let (web, path) =
            (TcpListener::bind("127.0.0.1:0").unwrap(), sandbox.path().join("local.sock"));
        let port = web.local_addr().unwrap().port();
        let configuration = format!(
            "{SIGNING}[server]\nbind_port={port}\n[metrics]\nbind_port=0\n[listener_local]\nbind=unix:{}\nserves=auth\n",
            path.display()
        );
        Self { web, local: UnixListener::bind(&path).unwrap(), path, configuration }
    }

    /// What is passed on of them.
    fn passed(&self) -> [OwnedFd; 2] {
        [self.web.try_clone().unwrap().into(), self.local.try_clone().unwrap().into()]
    }
}

/// A question that is asked although nobody listens yet.
fn asked<S: std::io::Read + std::io::Write>(stream: S) -> Connection<S> {
    let mut connection = Connection::over(stream);
    connection.send(
        &format!("GET /auth HTTP/1.1\r\nAuthorization: Bearer {}\r\n", given::good_token()),
        b"",
    );
    connection
}

#[test]
fn a_restart_loses_no_connection() {
    let sandbox = Sandbox::new();
    let sockets = Sockets::open(&sandbox);
    let [web, local] = sockets.passed();
    for _ in 0..2 {
        // While nobody runs.
        let mut waiting = asked(TcpStream::connect(sockets.web.local_addr().unwrap()).unwrap());
        let mut nearby = asked(UnixStream::connect(&sockets.path).unwrap());
        let server = sandbox.activate([&web, &local], &sockets.configuration);
        assert_eq!((waiting.receive(false).status, nearby.receive(false).status), (200, 200));
        assert_eq!(server.auth(&given::good_token()).status, 200);
        let (status, _) = server.stop("TERM");
        assert!(status.success());
        assert!(waiting.is_closed());
    }
    assert!(sockets.path.exists(), "the socket is not the server's to remove");
}

/// What a server says that cannot start with these sockets.
fn refused(sandbox: &Sandbox, sockets: [&OwnedFd; 2], configuration: &str) -> String {
    let output = sandbox.activated(sockets, configuration).stdout(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let log = sandbox.path().join("log");
    let said = fs::read_to_string(&log).unwrap();
    fs::remove_file(log).unwrap();
    said
}

#[test]
fn a_socket_that_nobody_is_configured_for_is_named() {
    let sandbox = Sandbox::new();
    let sockets = Sockets::open(&sandbox);
    let [web, local] = sockets.passed();
    let elsewhere = sockets.configuration.replace("bind_port=", "bind_port=0\n#");
    let said = refused(&sandbox, [&web, &local], &elsewhere);
    let address = sockets.web.local_addr().unwrap().to_string();
    assert!(said.contains(&address) && said.contains("no listener is configured there"), "{said}");
    let elsewhere = sockets.configuration.replace("local.sock", "other.sock");
    let said = refused(&sandbox, [&web, &local], &elsewhere);
    assert!(
        said.contains("local.sock") && said.contains("no listener is configured there"),
        "{said}"
    );
}

#[test]
fn what_does_not_listen_is_refused() {
    let sandbox = Sandbox::new();
    let sockets = Sockets::open(&sandbox);
    let [_, local] = sockets.passed();
    // Accept=yes: a connection, at the listener's own address.
    let _client = TcpStream::connect(sockets.web.local_addr().unwrap()).unwrap();
    let connection = OwnedFd::from(sockets.web.accept().unwrap().0);
    let file = OwnedFd::from(fs::File::open("/dev/null").unwrap());
    let datagrams = OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap());
    for (odd, why) in [
        (&connection, "does not listen"),
        (&file, "is not a socket"),
        (&datagrams, "is not a valid"),
    ] {
        let said = refused(&sandbox, [odd, &local], &sockets.configuration);
        assert!(
            said.contains("inherited socket 1 of 2 cannot be used") && said.contains(why),
            "{said}"
        );
    }
}

#[test]
fn sockets_for_another_process_are_left_alone() {
    let sandbox = Sandbox::new().variable("LISTEN_PID", "1").variable("LISTEN_FDS", "7");
    assert_eq!(sandbox.serve(SIGNING).auth(&given::good_token()).status, 200);
}

fn unit(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd").join(name);
    fs::read_to_string(path).unwrap()
}

/// The options of a unit, with all that was written for each.
fn options(unit: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut options: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (name, value) in
        unit.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='))
    {
        options.entry(name).or_default().push(value);
    }
    options
}

#[test]
fn the_units_fit_the_program() {
    let (service, socket) = (unit("countersign.service"), unit("countersign.socket"));
    let (service, socket) = (options(&service), options(&socket));
    let words: Vec<_> = service["ExecStart"][0].split(' ').collect();
    assert_eq!(words[1], "serve");
    let help = Sandbox::new().run(["serve", "--help"]);
    for flag in words.iter().filter(|word| word.starts_with('-')) {
        assert!(help.text().contains(&format!("{flag} <")), "{flag} is not in {help:?}");
    }
    // What it may write to is where it writes.
    assert_eq!(
        (words[words.len() - 1], service["StateDirectory"][0]),
        ("%S/countersign", "countersign")
    );
    assert_eq!(service["Type"].last(), Some(&"notify-reload"));
    assert_eq!(
        service["RestartPreventExitStatus"],
        ["2"],
        "the exit code for a configuration with mistakes"
    );
    // The sockets are those of the defaults, and there are files enough for them.
    let check = Sandbox::new().run(["config", "check"]);
    for address in &socket["ListenStream"] {
        assert!(
            check.text().contains(&format!("http://{address}")),
            "{address} is not in {check:?}"
        );
    }
    assert_eq!(socket["ListenStream"].len(), 2);
    assert!(service["LimitNOFILE"][0].parse::<usize>().unwrap() > 16_384 + 64);
}

#[test]
fn the_units_are_valid() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        // Past the test runner, which keeps what a passing test prints to itself.
        drop(writeln!(
            std::io::stderr(),
            "SKIPPED: the_units_are_valid: systemd-analyze is not here"
        ));
        return;
    }
    let sandbox = Sandbox::new();
    let program = binary::path().to_str().unwrap();
    sandbox.file(
        "countersign.service",
        unit("countersign.service").replace("/usr/bin/countersign", program),
    );
    sandbox.file("countersign.socket", unit("countersign.socket"));
    let analyze = |arguments: &[&str]| {
        let mut command = Command::new("systemd-analyze");
        command
            .args(arguments)
            .arg("./countersign.service")
            .current_dir(sandbox.path())
            .output()
            .unwrap()
    };
    let verified = analyze(&["verify", "./countersign.socket"]);
    let said = String::from_utf8_lossy(&verified.stderr);
    // Which is what the unit says about versions before 253.
    let faults: Vec<_> = said
        .lines()
        .filter(|line| !line.ends_with("service type, ignoring: notify-reload"))
        .collect();
    let faults: Vec<_> = faults.into_iter().filter(|line| line.contains("countersign.")).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    let exposure = analyze(&["security", "--offline=true", "--threshold=20"]);
    assert!(exposure.status.success(), "{}", String::from_utf8_lossy(&exposure.stdout));
}
