use countersign_tests::{binary::Sandbox, postgres::Postgres};
use serde_json::{Value, json};

use super::{Api, ENVIRONMENT, configuration, data, session_of};
use crate::fixture;

#[test]
fn documentation_is_a_page_or_an_openapi_document() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration(""));
    let root = Api::root(&server);
    for call in ["GET /docs", "GET /docs?format=swagger&swagger_description=%3Cb%3E"] {
        let page = root.ask(call);
        assert_eq!(page.status, 200, "{page:?}");
        assert_eq!(page.header("content-type"), Some("text/html; charset=UTF-8"));
        assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
        assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
        assert!(page.body.contains("&lt;username&gt;") && !page.body.contains("<b>"), "{page:?}");
    }
    let document = data(&root.ask("GET /docs?format=openapi&swagger_description=here"));
    assert_eq!(document["openapi"], "3.0.2");
    assert_eq!(document["info"]["description"], "here");
    assert_eq!(document["paths"]["/api/v2/docs"]["get"]["x-auth-label"], "docs.read");
    assert_eq!(root.ask("GET /docs?format=yaml").status, 400);
    assert_eq!(root.ask("GET /api/v1/docs").status, 404);
}

#[test]
fn documentation_takes_a_token_from_the_query() {
    let sandbox = Sandbox::new().variable("COUNTERSIGN_LOG", "trace");
    let server = sandbox.serve(&configuration("[log]\nrequests=all\n"));
    let (anonymous, root) = (Api::anonymous(&server), Api::root(&server));
    root.add_environment(ENVIRONMENT);
    let good = session_of("reader", false);
    let forged = format!("{}AAAA", good.strip_suffix(&good[good.len() - 4..]).unwrap());
    let ask = |api: &Api<'_>, query: &str| api.ask(&format!("GET /docs{query}"));
    assert_eq!(ask(&anonymous, "").status, 401);
    assert_eq!(ask(&anonymous, &format!("?token={good}")).status, 200);
    let refusals = [
        (ask(&anonymous, &format!("?token={forged}")), 403),
        // As in the Inmanta server, it takes the place of the header.
        (ask(&root, &format!("?format=openapi&token={forged}")), 403),
        (ask(&anonymous, &format!("?token={good}&token={good}")), 401),
        // A token of one environment is not enough.
        (
            ask(
                &anonymous,
                &format!(
                    "?token={}",
                    fixture::token(&fixture::claims(json!({ "urn:inmanta:env": ENVIRONMENT })))
                ),
            ),
            403,
        ),
        (anonymous.ask(&format!("GET /user?token={good}")), 401),
        (anonymous.ask(&format!("GET /api/v1/serverstatus?token={good}")), 401),
        (anonymous.send_raw(&format!("POST /role?token={good}"), "{}"), 401),
        (root.ask(&format!("GET /user?token={good}")), 400),
    ];
    let secrets = [&good, &forged].map(|token| token.rsplit('.').next().unwrap().to_owned());
    for (response, status) in &refusals {
        assert_eq!(response.status, *status, "{response:?}");
        assert!(!secrets.iter().any(|secret| response.body.contains(secret)), "{response:?}");
    }
    let metrics = server.operations("/metrics").body;
    assert!(metrics.contains("countersign_requests"), "{metrics}");
    let log = server.log();
    assert!(log.contains("/api/v2/docs"), "{log}");
    for secret in &secrets {
        assert!(!log.contains(secret) && !metrics.contains(secret), "the token is not shown");
    }
}

#[test]
fn status_names_the_version_and_the_database() {
    let postgres = Postgres::start();
    let url = format!("[database]\nurl={}\n", postgres.url());
    for (options, database) in [("", "SQLite"), (&*url, "PostgreSQL")] {
        let sandbox = Sandbox::new();
        let server = sandbox.serve(&configuration(options));
        let mut status = data(&Api::root(&server).ask("GET /api/v1/serverstatus"));
        let version = status["postgresql_version"].take();
        assert_eq!(version.is_string(), database == "PostgreSQL", "{version}");
        let slice = |name: &str, status: Value| json!({ "name": name, "status": status, "reported_status": "OK", "message": null });
        let database = json!({ "connected": true, "database": database });
        let expected = json!({
            "product": "Countersign",
            "edition": "Auth tier",
            "version": env!("CARGO_PKG_VERSION"),
            "license": "MIT OR Apache-2.0",
            "extensions": [],
            "slices": [slice("core.server", json!({})), slice("core.database", database)],
            "features": [],
            "status": "OK",
            "python_version": "",
            "postgresql_version": null,
        });
        assert_eq!(status, expected);
        assert_eq!(Api::root(&server).ask("GET /serverstatus").status, 404, "only in version 1");
    }
}
