use super::*;
use crate::config::{Config, ConfigFormat, RawConfig};

/// Returns the table of this configuration.
fn table(text: &str) -> Config {
    let mut raw = RawConfig::default();
    raw.add("c.cfg", text, ConfigFormat::Ini);
    Config::from_raw(raw).unwrap()
}

/// Describes the decision before a token is looked at.
fn found(config: &Config, method: &str, target: &str) -> String {
    match config.settings.auth.authorization.routes.find(method, target) {
        RouteMatch::Denied(denial) => format!("denied: {denial}"),
        RouteMatch::Public(rule) => format!("{} is public", rule.name),
        RouteMatch::Token(route) => {
            let name = route.rule().map(|rule| &*rule.name).unwrap_or_default();
            format!("{name} decides{}", if route.is_anonymous() { ", anonymous too" } else { "" })
        }
    }
}

#[track_caller]
fn all(config: &Config, requests: &[(&str, &str, &str)]) {
    for (method, target, expected) in requests {
        assert_eq!(found(config, method, target), *expected, "{method} {target}");
    }
}

const SIMILAR: &str = "only in letters' case, accents, an encoded slash, or a slash at the end";

#[test]
fn first_matching_route_decides() {
    let config = table(
        "[route_health]\nmatch=GET /healthz\npublic=true\n\
         [route_files]\nmatch=GET /files/*\nanonymous=true\n\
         [route_secret]\nmatch=* /api/orders/*/secret\ndeny=true\n\
         [route_order]\nmatch=GET /api/orders/{id}, POST|PUT /api/orders/<id>/lines\n\
         [route_below]\nmatch=GET /api/orders/*\n\
         [route_rest]\nmatch=DELETE /*\n",
    );
    let none = "denied: no route matches";
    all(
        &config,
        &[
            ("GET", "/healthz", "route_health is public"),
            ("HEAD", "/healthz?x=1", "route_health is public"),
            ("GET", "http://host/healthz", "route_health is public"),
            ("GET", "/%68ealthz", "route_health is public"),
            ("POST", "/healthz", none),
            ("GET", "/files/", "route_files decides, anonymous too"),
            ("GET", "/files/a/b/", "route_files decides, anonymous too"),
            ("GET", "/api/orders/7", "route_order decides"),
            ("POST", "/api/orders/7/lines", "route_order decides"),
            ("PATCH", "/api/orders/7/lines", none),
            ("GET", "/api/orders/7/lines", "route_below decides"),
            ("GET", "/api/orders/", "route_below decides"),
            ("TRACE", "/api/orders/7/secret", "denied: [route_secret] denies every request"),
            ("DELETE", "/", "route_rest decides"),
            ("DELETE", "/x", "route_rest decides"),
            ("OPTIONS", "*", "denied: the path is ambiguous: it does not start with /"),
            ("GET", "/", none),
        ],
    );
    assert_eq!(config.settings.auth.authorization.routes.rules().len(), 6);
    let empty = RouteTable::default();
    assert!(matches!(empty.find("GET", "/"), RouteMatch::Denied(_)));
}

#[test]
fn e7_similar_request_does_not_fall_through_to_a_later_route() {
    let config = table(
        "[route_admin]\nmatch=* /admin/*\n\
         [route_one]\nmatch=GET|POST /One\n\
         [route_folder]\nmatch=GET /folder/\n\
         [route_all]\nmatch=* /*\n",
    );
    let all_of = "route_all decides";
    for (method, target, rule) in [
        ("GET", "/Admin/x", "admin"),
        ("GET", "/ADMIN/", "admin"),
        ("GET", "/admin", "admin"),
        ("GET", "/%41dmin/x", "admin"),
        ("GET", "/one", "one"),
        ("GET", "/One/", "one"),
        ("get", "/One", "one"),
        ("Post", "/One", "one"),
        ("GET", "/folder", "folder"),
        ("GET", "/Folder/", "folder"),
    ] {
        let expected =
            format!("denied: the request is ambiguous: it differs from those of [route_{rule}]");
        let found = found(&config, method, target);
        assert!(found.starts_with(&expected) && found.ends_with(SIMILAR), "{target}: {found}");
    }
    all(
        &config,
        &[
            ("GET", "/admin/", "route_admin decides"),
            ("get", "/admin/x", "route_admin decides"),
            ("PUT", "/one", all_of),
            ("put", "/one", all_of),
            ("GET", "/ones", all_of),
            ("GET", "/One/x", all_of),
            ("GET", "/folder/x", all_of),
            ("GET", "/administrators", all_of),
            ("GET", "/", all_of),
        ],
    );
}

#[test]
fn similar_requests_of_one_route_are_not_ambiguous() {
    let config = table(
        "[route_orders]\nmatch=GET /orders, GET /orders/*\n[route_all]\nmatch=* /*\ndeny=true\n",
    );
    for target in ["/orders", "/orders/", "/orders/7", "/orders/7/"] {
        assert_eq!(found(&config, "GET", target), "route_orders decides", "{target}");
    }
    assert!(found(&config, "GET", "/Orders").ends_with(SIMILAR));
}

#[test]
fn literals_of_patterns_are_compared_decoded() {
    let config = table("[route_a]\nmatch=GET /caf%c3%a9/a%20b, GET /%2A/x\npublic=true\n");
    for target in ["/café/a%20b", "/caf%C3%A9/%61%20b", "/*/x", "/%2a/x"] {
        assert_eq!(found(&config, "GET", target), "route_a is public", "{target}");
    }
    assert_eq!(found(&config, "GET", "/y/x"), "denied: no route matches");
}

#[test]
fn e7_encoded_slash_matches_wildcards_only() {
    let rules = "[route_resource]\nmatch=GET /resource/{id}\n[route_ab]\nmatch=GET /a/b\n";
    let refusing = table(rules);
    let keeping = table(&format!("[routes]\nallow_encoded_slash=true\n{rules}"));
    let refused = "denied: the path is ambiguous: it has an encoded slash (%2F)";
    assert_eq!(found(&refusing, "GET", "/resource/a%2Fb"), refused);
    assert_eq!(found(&keeping, "GET", "/resource/a%2fb"), "route_resource decides");
    assert_eq!(found(&keeping, "GET", "/x%2Fb"), "denied: no route matches");
    for target in ["/a%2Fb", "/A%2fb", "/resource%2Fa"] {
        assert!(found(&keeping, "GET", target).ends_with(SIMILAR), "{target}");
    }
}

#[test]
fn e7_decoded_slash_does_not_pass_an_earlier_or_denying_route() {
    let config = table(
        "[routes]\nallow_encoded_slash=true\ndefault=allow\n\
         [route_admin]\nmatch=* /files/*/admin\n\
         [route_file]\nmatch=GET /files/{id}\n\
         [route_closed]\nmatch=* /files/closed/*\ndeny=true\n\
         [route_rest]\nmatch=GET /files/*\n",
    );
    for target in ["/files/a%2Fadmin", "/files/a%2FAdmin", "/files/closed%2Fx", "/files/Closed%2fx"]
    {
        assert!(found(&config, "GET", target).ends_with(SIMILAR), "{target}");
    }
    assert!(found(&config, "POST", "/files%2Fclosed%2Fx").ends_with(SIMILAR));
    assert_eq!(found(&config, "GET", "/files/a%2Fb"), "route_file decides");
    assert_eq!(found(&config, "GET", "/other%2Fx"), " decides");
}

#[test]
fn e7_variants_beyond_ascii_do_not_fall_through() {
    let rules = "[route_admin]\nmatch=* /admin/*\n[route_all]\nmatch=* /*\n";
    let with_others = format!("[route_cafe]\nmatch=GET /caf\u{e9}, GET /pro\u{fb01}le\n{rules}");
    for config in [table(rules), table(&with_others)] {
        for target in ["/adm\u{131}n/x", "/ADM%C4%B0N/x", "/\u{ff41}dmin/x", "/admi\u{301}n/x"] {
            assert!(found(&config, "GET", target).ends_with(SIMILAR), "{target}");
        }
        assert_eq!(found(&config, "GET", "/b\u{e9}/x"), "route_all decides");
    }
    let config = table(&with_others);
    for target in ["/CAF\u{c9}", "/profile", "/PROFILE", "/pro\u{fb01}le/"] {
        assert!(found(&config, "GET", target).ends_with(SIMILAR), "{target}");
    }
    for target in ["/caf\u{e9}", "/pro%EF%AC%81le"] {
        assert_eq!(found(&config, "GET", target), "route_cafe decides", "{target}");
    }
}

#[test]
fn default_allow_admits_any_valid_token() {
    let config = table("[routes]\ndefault=allow\n[route_a]\nmatch=GET /a\ndeny=true\n");
    assert_eq!(found(&config, "GET", "/b"), " decides");
    assert!(found(&config, "GET", "/A").ends_with(SIMILAR));
    assert!(found(&config, "GET", "/b/../a").starts_with("denied: the path is ambiguous"));
}

#[test]
fn routes_are_in_the_order_of_the_files() {
    let names = |files: &[(&str, &str, ConfigFormat)]| {
        let mut raw = RawConfig::default();
        for (name, text, format) in files {
            raw.add(name, text, *format);
        }
        let config = Config::from_raw(raw).unwrap();
        let rules = config.settings.auth.authorization.routes.rules().iter();
        rules.map(|rule| rule.name.trim_start_matches("route_").to_owned()).collect::<Vec<_>>()
    };
    let cfg = "[route_z]\nmatch=GET /z\n[route_b]\nmatch=GET /b\n[route_m]\nmatch=GET /m\n";
    let toml = "[route_y]\nmatch = \"GET /y\"\n[route_b]\npublic = true\n[route_a]\nmatch = [\"GET /a\", \"GET /c\"]\n";
    let (cfg, toml) = (("c.cfg", cfg, ConfigFormat::Ini), ("d.toml", toml, ConfigFormat::Toml));
    assert_eq!(names(&[cfg]), ["z", "b", "m"]);
    assert_eq!(names(&[cfg, toml]), ["z", "b", "m", "y", "a"]);
    let twice = ("e.cfg", "[route_a]\nmatch=GET /\n[route_0]\nmatch=GET /0\n", ConfigFormat::Ini);
    assert_eq!(names(&[twice, toml, cfg]), ["a", "0", "y", "b", "z", "m"]);
}

#[test]
fn open_paths_are_for_get_and_head() {
    let config = table("[listen]\nopen_paths=/healthz, /static/*\n");
    let open = &config.settings.listeners[0].access.as_ref().expect("open paths").open_paths;
    for (method, target) in [
        ("GET", "/healthz"),
        ("HEAD", "/healthz?x"),
        ("GET", "/static/"),
        ("GET", "/static/a/b.css"),
        ("GET", "http://host/static/%61"),
    ] {
        assert!(open.contains(method, target), "{method} {target}");
    }
    for (method, target) in [
        ("POST", "/healthz"),
        ("OPTIONS", "/healthz"),
        ("get", "/healthz"),
        ("GET", "/Healthz"),
        ("GET", "/healthz/"),
        ("GET", "/static"),
        ("GET", "/static/../api"),
        ("GET", "/static/%2e%2e/api"),
        ("GET", "/static/..%2fapi"),
        ("GET", "/static/a;b"),
        ("GET", "//static/a"),
        ("GET", "/"),
        ("GET", ""),
    ] {
        assert!(!open.contains(method, target), "{method} {target}");
    }
    assert!(config.settings.listeners[1].access.is_none());
}
