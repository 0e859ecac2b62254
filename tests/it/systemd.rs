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

use crate::fixture::{self, SIGNING};

/// Waits for the next notification to systemd.
fn notification(manager: &UnixDatagram) -> String {
    let mut message = [0; 256];
    let length = manager.recv(&mut message).expect("systemd receives a notification");
    String::from_utf8(message[..length].into()).unwrap()
}

/// Waits for a RELOADING notification and returns its monotonic time in microseconds.
fn reload_time(manager: &UnixDatagram) -> u64 {
    let message = notification(manager);
    let moment = message
        .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
        .and_then(|rest| rest.trim_end().parse().ok());
    moment.unwrap_or_else(|| panic!("{message:?}"))
}

#[test]
fn systemd_is_notified_of_every_state() {
    let sandbox = Sandbox::new();
    let manager = UnixDatagram::bind(sandbox.path().join("notify")).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let path = sandbox.path().join("notify").to_str().unwrap().to_owned();
    let sandbox = sandbox.variable("NOTIFY_SOCKET", &path);
    let server = sandbox.serve(SIGNING);
    assert_eq!(notification(&manager), "READY=1\n");
    assert_eq!(server.auth(&fixture::good_token()).status, 200);
    server.signal("HUP");
    let first = reload_time(&manager);
    assert_eq!(notification(&manager), "READY=1\n");
    // A mistake found without a signal: the reload ends all the same.
    sandbox.replace("server.cfg", "[server]\nauth=perhaps\n");
    assert!(reload_time(&manager) > first);
    assert_eq!(notification(&manager), "READY=1\n");
    eventually(|| server.log().contains("Not a boolean: perhaps"));
    server.signal("TERM");
    assert_eq!(notification(&manager), "STOPPING=1\n");
}

#[test]
fn unreachable_notify_socket_is_tolerated() {
    let sandbox = Sandbox::new().variable("NOTIFY_SOCKET", "/nowhere/notify");
    let server = sandbox.serve(SIGNING);
    assert_eq!(server.auth(&fixture::good_token()).status, 200);
    assert!(server.log().contains("cannot notify the service manager"), "{}", server.log());
}

/// Sockets opened as by systemd, and a configuration for them.
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

    /// Returns copies of the [`Sockets`] to pass on.
    fn duplicates(&self) -> [OwnedFd; 2] {
        [self.web.try_clone().unwrap().into(), self.local.try_clone().unwrap().into()]
    }
}

/// Sends a request that no process accepts yet.
fn pending_request<S: std::io::Read + std::io::Write>(stream: S) -> Connection<S> {
    let mut connection = Connection::over(stream);
    connection.send(
        &format!("GET /auth HTTP/1.1\r\nAuthorization: Bearer {}\r\n", fixture::good_token()),
        b"",
    );
    connection
}

#[test]
fn restart_keeps_pending_connections() {
    let sandbox = Sandbox::new();
    let sockets = Sockets::open(&sandbox);
    let [web, local] = sockets.duplicates();
    for _ in 0..2 {
        // While no server runs.
        let mut waiting =
            pending_request(TcpStream::connect(sockets.web.local_addr().unwrap()).unwrap());
        let mut nearby = pending_request(UnixStream::connect(&sockets.path).unwrap());
        let server = sandbox.activate([&web, &local], &sockets.configuration);
        assert_eq!((waiting.receive(false).status, nearby.receive(false).status), (200, 200));
        assert_eq!(server.auth(&fixture::good_token()).status, 200);
        let (status, _) = server.stop("TERM");
        assert!(status.success());
        assert!(waiting.is_closed());
    }
    assert!(sockets.path.exists(), "the server must not remove systemd's socket");
}

/// Starts a server that must fail with these sockets, and returns its log.
fn fail_to_start(sandbox: &Sandbox, sockets: [&OwnedFd; 2], configuration: &str) -> String {
    let output =
        sandbox.activation_command(sockets, configuration).stdout(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let log = sandbox.path().join("log");
    let said = fs::read_to_string(&log).unwrap();
    fs::remove_file(log).unwrap();
    said
}

#[test]
fn unconfigured_socket_is_named() {
    let sandbox = Sandbox::new();
    let sockets = Sockets::open(&sandbox);
    let [web, local] = sockets.duplicates();
    let elsewhere = sockets.configuration.replace("bind_port=", "bind_port=0\n#");
    let said = fail_to_start(&sandbox, [&web, &local], &elsewhere);
    let address = sockets.web.local_addr().unwrap().to_string();
    assert!(said.contains(&address) && said.contains("no listener is configured there"), "{said}");
    let elsewhere = sockets.configuration.replace("local.sock", "other.sock");
    let said = fail_to_start(&sandbox, [&web, &local], &elsewhere);
    assert!(
        said.contains("local.sock") && said.contains("no listener is configured there"),
        "{said}"
    );
}

#[test]
fn non_listening_sockets_are_refused() {
    let sandbox = Sandbox::new();
    let sockets = Sockets::open(&sandbox);
    let [_, local] = sockets.duplicates();
    // Accept=yes: a connection whose local address is the listener's.
    let _client = TcpStream::connect(sockets.web.local_addr().unwrap()).unwrap();
    let connection = OwnedFd::from(sockets.web.accept().unwrap().0);
    let file = OwnedFd::from(fs::File::open("/dev/null").unwrap());
    let datagrams = OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap());
    for (odd, reason) in [
        (&connection, "it is not listening; in a socket unit, write Accept=no"),
        (&file, "is not a socket"),
        (&datagrams, "is not a valid"),
    ] {
        let said = fail_to_start(&sandbox, [odd, &local], &sockets.configuration);
        assert!(
            said.contains("inherited socket 1 of 2 cannot be used") && said.contains(reason),
            "{said}"
        );
    }
}

#[test]
fn sockets_of_another_process_are_ignored() {
    let sandbox = Sandbox::new().variable("LISTEN_PID", "1").variable("LISTEN_FDS", "7");
    assert_eq!(sandbox.serve(SIGNING).auth(&fixture::good_token()).status, 200);
}

fn unit(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd").join(name);
    fs::read_to_string(path).unwrap()
}

/// Returns the options of a unit, each with all its values.
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
fn systemd_units_match_the_program() {
    let (service, socket) = (unit("countersign.service"), unit("countersign.socket"));
    let (service, socket) = (options(&service), options(&socket));
    let words: Vec<_> = service["ExecStart"][0].split(' ').collect();
    assert_eq!(words[1], "serve");
    let help = Sandbox::new().run(["serve", "--help"]);
    for flag in words.iter().filter(|word| word.starts_with('-')) {
        assert!(help.text().contains(&format!("{flag} <")), "{flag} is not in {help:?}");
    }
    // The state directory is the only writable one.
    assert_eq!(
        (words[words.len() - 1], service["StateDirectory"][0]),
        ("%S/countersign", "countersign")
    );
    assert_eq!(service["Type"].last(), Some(&"notify-reload"));
    assert_eq!(
        service["RestartPreventExitStatus"],
        ["2"],
        "the exit code of a configuration error"
    );
    // The sockets match the default listeners, and the file limit is sufficient.
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
fn systemd_units_are_valid() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        // Standard error, because the test harness captures the output of passing tests.
        drop(writeln!(
            std::io::stderr(),
            "SKIPPED: systemd_units_are_valid: systemd-analyze is not installed"
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
    let stderr = String::from_utf8_lossy(&verified.stderr);
    // Versions before 253 do not know this service type, as the unit states.
    let faults: Vec<_> = stderr
        .lines()
        .filter(|line| !line.ends_with("service type, ignoring: notify-reload"))
        .collect();
    let faults: Vec<_> = faults.into_iter().filter(|line| line.contains("countersign.")).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    let exposure = analyze(&["security", "--offline=true", "--threshold=20"]);
    assert!(exposure.status.success(), "{}", String::from_utf8_lossy(&exposure.stdout));
}
