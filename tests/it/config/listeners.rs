//! Checks of `[listen]`, `[listener_<name>]`, `[metrics]`, `[limits]` and `[log]`.

use countersign_tests::binary::{Output, Sandbox};

use super::check;

/// Sections with their options, independent of the file format.
type Sections<'w> = [(&'w str, &'w [(&'w str, &'w str)])];

/// Runs `config check` on the [`Sections`] as a `.cfg` and as TOML.
fn check_both_forms(written: &Sections<'_>) -> [Output; 2] {
    [("c.cfg", ""), ("c.toml", "\"")].map(|(name, quote)| {
        let mut text = String::new();
        for (section, options) in written {
            text += &format!("[{section}]\n");
            for (option, value) in *options {
                text += &format!("{option} = {quote}{value}{quote}\n");
            }
        }
        check(&Sandbox::new(), name, &text)
    })
}

/// Checks that both forms are refused, at this line and with each of these texts.
#[track_caller]
fn refused(written: &Sections<'_>, line: u32, expected: &[&str]) {
    for (output, name) in check_both_forms(written).into_iter().zip(["c.cfg", "c.toml"]) {
        assert_eq!(output.code(), 2, "{output:?}");
        let place = format!("{name}:{line}: ");
        assert!(output.stderr.contains(&place), "{place} is not in {}", output.stderr);
        for words in expected {
            assert!(output.stderr.contains(words), "{words:?} is not in {}", output.stderr);
        }
    }
}

/// Checks that both forms are valid, with one warning that contains each of these texts, or none.
#[track_caller]
fn warned(written: &Sections<'_>, expected: &[&str]) {
    for output in check_both_forms(written) {
        assert_eq!(output.code(), 0, "{output:?}");
        assert_eq!(
            output.stderr.matches("warning: ").count(),
            usize::from(!expected.is_empty()),
            "{}",
            output.stderr
        );
        for words in expected {
            assert!(output.stderr.contains(words), "{words:?} is not in {}", output.stderr);
        }
    }
}

const BIND: (&str, &str) = ("bind", "127.0.0.1:9000");

#[test]
fn listener_requires_a_valid_bind() {
    const HELP: &str =
        "write one such as bind=127.0.0.1:9000, [::1]:9000 or unix:/run/countersign.sock";
    refused(&[("listener_x", &[])], 1, &["bind is required in listener_x section", HELP]);
    refused(
        &[("listener_x", &[("bind", "")])],
        2,
        &["bind is required in listener_x section", HELP],
    );
    let binds = [
        "9000",
        "localhost:9000",
        "127.0.0.1",
        "127.0.0.1:70000",
        "unix:run.sock",
        "unix:",
        "[::1]",
    ];
    let texts =
        binds.map(|bind| format!("\"{bind}\" is neither an address with a port nor a Unix socket"));
    let texts: Vec<_> = texts.iter().map(String::as_str).chain([HELP]).collect();
    refused(&[("listener_x", &[("bind", &binds.join(","))])], 2, &texts);
    let (fits, longer) =
        (format!("unix:/{}", "d".repeat(106)), format!("unix:/{}", "d".repeat(107)));
    warned(&[("listener_x", &[("bind", &fits)])], &[]);
    refused(
        &[("listener_x", &[("bind", &longer)])],
        2,
        &["a path in bind has 108 bytes, too long for a Unix socket", "choose a shorter path"],
    );
}

#[test]
fn socket_permissions_are_checked() {
    let unix = ("bind", "unix:/run/a.sock");
    let cases = [
        (("mode", "rw"), "mode \"rw\" is not an octal number up to 0777"),
        (("mode", "1777"), "mode \"1777\" is not an octal number up to 0777"),
        (("mode", "0444"), "with mode \"0444\" no client can connect"),
        (("group", "no-such-group"), "group \"no-such-group\" does not exist on this machine"),
    ];
    for (option, text) in cases {
        refused(&[("listener_x", &[unix, option])], 3, &[text]);
    }
    warned(&[("listener_x", &[unix, ("mode", "0600"), ("group", "root")])], &[]);
    warned(
        &[("listener_x", &[BIND, ("mode", "0600")])],
        &["mode in listener_x has no effect without a Unix socket"],
    );
}

#[test]
fn unknown_choice_lists_the_valid_ones() {
    for (option, choices) in [
        ("dialect", "none, nginx, x-forwarded, envoy-path"),
        ("surface", "generic, inmanta"),
        ("serves", "everything, auth, operations"),
    ] {
        let text = format!("{option} \"haproxi\" is unknown");
        let trusted = ("trusted_proxies", "10.0.0.1");
        refused(
            &[("listener_x", &[BIND, trusted, (option, "haproxi")])],
            4,
            &[&text, &format!("choose one of {choices}")],
        );
    }
    refused(
        &[("log", &[("requests", "some")])],
        2,
        &["requests \"some\" is unknown", "choose one of off, refused, all"],
    );
    refused(
        &[("log", &[("format", "xml")])],
        2,
        &["format \"xml\" is unknown", "choose one of auto, json, human"],
    );
}

#[test]
fn protocols_use_alpn_names_and_check_needs() {
    let listen = |value| [("listen", [("protocols", value)])];
    let said = |value: &'static str, expected: &[&str]| {
        let [(section, options)] = listen(value);
        refused(&[(section, &options)], 2, expected);
    };
    said("http/1.1, h4", &["\"h4\" is unknown", "choose from http/1.1, h2, h3"]);
    said("h2c", &["write h2: without TLS, clients use it by prior knowledge"]);
    said("http/1", &["did you mean http/1.1?"]);
    said("", &["protocols in listen is empty"]);
    said("http/1.1, h3", &["requires TLS", "set ssl_cert_file and ssl_key_file"]);
    refused(&[("quic", &[("retry_above", "-1")])], 2, &["a number from 0 to"]);
    refused(
        &[("quic", &[("key_file", "/nothing/there")])],
        2,
        &["/nothing/there: ", "openssl rand -base64 48 > /nothing/there"],
    );
    refused(&[("quic", &[("key_file", "/dev/null")])], 2, &["/dev/null: "]);
}

#[test]
fn spop_needs_a_listener_of_its_own() {
    const OWN: &[&str] = &["contains spop, which needs a listener of its own"];
    refused(&[("listen", &[("protocols", "spop")])], 2, OWN);
    refused(&[("listener_x", &[BIND, ("protocols", "http/1.1, spop")])], 3, OWN);
    let everything = [BIND, ("protocols", "spop"), ("serves", "everything")];
    refused(&[("listener_x", &everything)], 4, &["a listener with spop only serves checks"]);
    refused(&[("listener_x", &[BIND, ("protocols", "spopp")])], 3, &["did you mean spop?"]);
    let described = [
        BIND,
        ("protocols", "spop"),
        ("trusted_proxies", "127.0.0.1"),
        ("authorization", "legacy"),
        ("preflight", "allow"),
    ];
    warned(&[("listener_x", &described)], &[]);
    let shown = &check_both_forms(&[("listener_x", &described)])[0].stdout;
    assert!(shown.contains("spop://127.0.0.1:9000, for checks of HAProxy"), "{shown}");
    let untrusted = [BIND, ("protocols", "spop")];
    let shown = &check_both_forms(&[("listener_x", &untrusted)])[0].stdout;
    assert!(shown.contains("serves only SPOP, so proxies connect to it"), "{shown}");
}

#[test]
fn limits_outside_their_range_are_refused() {
    let ranges = [
        ("head_timeout", "1 to 3600"),
        ("body_timeout", "1 to 3600"),
        ("idle_timeout", "1 to 86400"),
        ("connections", "1 to 1048576"),
    ];
    for value in ["0", "-1", "soon", "10s"] {
        let options = ranges.map(|(option, _)| (option, value));
        let texts = ranges.map(|(option, range)| {
            format!("{option} in limits must be a number from {range}, not \"{value}\"")
        });
        refused(&[("limits", &options)], 5, &texts.each_ref().map(String::as_str));
    }
    refused(
        &[("limits", &[("drain_timeout", "3601")])],
        2,
        &["drain_timeout in limits must be a number from 0 to 3600"],
    );
    refused(
        &[("listen", &[("threads", "0")])],
        2,
        &["threads in listen must be a number from 1 to 1024"],
    );
    warned(&[("limits", &[("drain_timeout", "0"), ("connections", "1")])], &[]);
}

#[test]
fn proxy_options_require_trusted_proxies() {
    for (section, options) in [
        ("listen", &[("proxy_protocol", "true")][..]),
        ("listener_x", &[("proxy_protocol", "on"), BIND]),
    ] {
        let text = format!("proxy_protocol in {section} is on but trusted_proxies is empty");
        refused(
            &[(section, options)],
            2,
            &[&text, "list the proxies that send it in trusted_proxies"],
        );
    }
    for option in [
        ("dialect", "nginx"),
        ("client_address_header", "X-Real-IP"),
        ("client_certificate_header", "X-Client-Cert"),
    ] {
        let text = format!("{} in listener_x has no effect without trusted proxies", option.0);
        warned(
            &[("listener_x", &[BIND, option])],
            &[&text, "list the proxies that set it in trusted_proxies"],
        );
        warned(&[("listen", &[option])], &["has no effect without trusted proxies"]);
        warned(&[("listener_x", &[BIND, option, ("trusted_proxies", "10.0.0.1")])], &[]);
    }
    warned(&[("listen", &[("dialect", "none")])], &[]);
}

#[test]
fn certificate_header_has_no_other_meaning() {
    for header in ["Authorization", "X-Forwarded-For", "cookie"] {
        let options = [("client_certificate_header", header), ("trusted_proxies", "10.0.0.1")];
        let text = format!(
            "client_certificate_header in listen is {}, which has another meaning",
            header.to_lowercase()
        );
        refused(&[("listen", &options)], 2, &[&text]);
    }
    let format = [("client_certificate_format", "xfcc"), ("trusted_proxies", "10.0.0.1")];
    warned(&[("listen", &format)], &["has no effect without the header's name"]);
}

#[test]
fn listeners_cannot_share_an_address() {
    let help = "use a different port or path for each listener";
    let twice = |one: &str, other: &str, expected: &str| {
        refused(
            &[("listener_a", &[("bind", one)]), ("listener_b", &[("bind", other)])],
            4,
            &[expected, help],
        );
    };
    twice(
        "127.0.0.1:9000",
        "127.0.0.1:9000",
        "listener b cannot bind 127.0.0.1:9000: listener a binds 127.0.0.1:9000",
    );
    twice(
        "0.0.0.0:9000",
        "127.0.0.1:9000",
        "listener b cannot bind 127.0.0.1:9000: listener a binds 0.0.0.0:9000",
    );
    twice("[::1]:9000", "[::]:9000", "listener b cannot bind [::]:9000");
    twice("unix:/run/a.sock", "unix:/run/a.sock", "listener b cannot bind unix:/run/a.sock");
    refused(
        &[("listener_a", &[("bind", "127.0.0.1:9000,127.0.0.1:9000")])],
        2,
        &["listener a cannot bind", help],
    );
    refused(
        &[("listener_a", &[("bind", "127.0.0.1:8888")])],
        2,
        &["listener a cannot bind 127.0.0.1:8888: listener main", help],
    );
    refused(
        &[("metrics", &[("bind_port", "8888")])],
        2,
        &["listener metrics cannot bind 127.0.0.1:8888: listener main", help],
    );
    // Any free port, different families and different addresses do not collide.
    let others = [(
        "bind",
        "127.0.0.1:0,127.0.0.1:0,127.0.0.2:8888,[::1]:8888,unix:/run/a.sock,unix:/run/b.sock",
    )];
    warned(&[("listener_a", &others)], &[]);
}

#[test]
fn listener_names_are_unique() {
    let help = "choose another name, such as [listener_internal]";
    for (name, text) in [
        ("listener_main", "the listener name main is reserved"),
        ("listener_metrics", "the listener name metrics is reserved"),
        ("listener_", "the listener of [listener_] has no name"),
    ] {
        refused(&[(name, &[BIND])], 1, &[text, help]);
    }
}

#[test]
fn public_operations_listener_is_warned_about() {
    let text = |place: &str| format!("metrics and the key status are public at {place}");
    let operations = ("serves", "operations");
    let help = "bind the listener to 127.0.0.1 or to an address of a private network";
    for place in ["0.0.0.0:9000", "198.51.100.7:9000", "[::]:9000", "[2001:db8::1]:9000"] {
        warned(&[("listener_x", &[("bind", place), operations])], &[&text(place), help]);
    }
    warned(&[("listener_x", &[("bind", "0.0.0.0:9000")])], &[]);
    let private =
        "127.0.0.1:9000,10.1.2.3:9000,100.64.0.1:9000,[::1]:9000,[fd00::1]:9000,unix:/run/a.sock";
    warned(&[("listener_x", &[("bind", private), operations])], &[]);
    warned(&[("metrics", &[("bind_address", "0.0.0.0")])], &[&text("0.0.0.0:8082")]);
}

#[test]
fn options_of_another_section_have_no_effect() {
    // Unknown options cause a warning in a .cfg and have no effect.
    for text in ["[web-ui]\nbind=127.0.0.1:1\n", "[metrics]\nserves=everything\nsurface=inmanta\n"]
    {
        let output = check(&Sandbox::new(), "c.cfg", text);
        assert!(output.stderr.contains("unknown option"), "{output:?}");
        let summary = output.text();
        assert!(
            summary.contains(
                "listener main: http://127.0.0.1:8888; /auth answers as the generic surface"
            ),
            "{summary}"
        );
        assert!(
            summary.contains("listener metrics: http://127.0.0.1:8082, for metrics and probes"),
            "{summary}"
        );
    }
}

#[test]
fn check_summarizes_each_listener() {
    let listener: &[(&str, &str)] = &[
        ("bind", "127.0.0.1:9000,unix:/run/a.sock"),
        ("serves", "auth"),
        ("surface", "inmanta"),
        ("trusted_proxies", "10.0.0.0/8,unix"),
        ("dialect", "x-forwarded"),
        ("client_certificate_header", "X-Client-Cert"),
        ("proxy_protocol", "on"),
    ];
    for output in check_both_forms(&[("listener_edge", listener)]) {
        let summary = output.text();
        for words in [
            "listener edge: http://127.0.0.1:9000 and unix:/run/a.sock, with /auth and probes only; /auth answers as the inmanta surface",
            "takes a client's address from x-forwarded-for if 10.0.0.0/8 or unix sets it",
            "takes the original request from their headers in the x-forwarded dialect",
            "takes a client's certificate from x-client-cert if they set it",
            "expects a PROXY protocol header of version 1 or 2 from them",
        ] {
            assert!(summary.contains(words), "{words:?} is not in {summary}");
        }
    }
}
