use countersign_tests::{binary::Sandbox, client::Protocol, over_every_protocol};
use serde_json::json;

use super::{query, serve, signed_in};
use crate::{
    admin_api::AdminApi,
    fixture,
    users::{Api, ENVIRONMENT},
};

over_every_protocol!(
    tables_are_sorted_by_links,
    tokens_are_shown_in_parts,
    users_are_shown_in_parts,
    figures_lead_to_their_meaning,
);

/// Returns the names in the first column of the users.
fn names(page: &str) -> Vec<&str> {
    let cells = page.split("<td data-label=\"User\"><strong>").skip(1);
    cells.map(|cell| cell.split('<').next().unwrap()).collect()
}

fn tables_are_sorted_by_links(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "");
    let root = Api::root(&server);
    ["Cid", "bob"].into_iter().for_each(|name| root.add_user(name));
    root.add_environment(ENVIRONMENT);
    root.send("POST /role", json!({ "name": "operator" }));
    let role = json!({ "environment": ENVIRONMENT, "role": "operator" });
    root.send("POST /role_assignment/bob", role);
    let mut browser = signed_in(&server);
    for (query, expected, order) in [
        ("sort=user", ["ann", "bob", "Cid"], "ascending"),
        ("sort=-user", ["Cid", "bob", "ann"], "descending"),
        ("sort=-roles", ["bob", "Cid", "ann"], "descending"),
    ] {
        let page = browser.page(&format!("/console/users?done=add&{query}"));
        let found = names(&page);
        assert_eq!((found[0], found.len()), (expected[0], 3), "{query}: {page}");
        assert!(query.contains("roles") || found == expected, "{query}: {found:?}");
        assert_eq!(page.matches("aria-sort=").count(), 1, "{page}");
        assert!(page.contains(&format!("aria-sort=\"{order}\"")), "{page}");
        let other = if query == "sort=user" { "-user" } else { "user" };
        assert!(page.contains(&format!("href=\"/console/users?sort={other}\"")), "{page}");
    }
    // The order is kept with the other fields of an address.
    let logins = browser.page("/console/audit?operation=login&sort=by");
    assert!(logins.contains("href=\"/console/audit?operation=login&amp;sort=-by\""), "{logins}");
    assert!(!browser.page("/console/audit?sort=%22%3E%3Cb%3E").contains("<b>"));
}

fn tokens_are_shown_in_parts(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "");
    let root = Api::root(&server);
    root.add_environment(ENVIRONMENT);
    let api = root.within(ENVIRONMENT);
    let short = json!({ "client_types": ["agent"], "expire": 1 });
    assert_eq!(api.send("POST /environment_auth", short).status, 200);
    let mut browser = signed_in(&server);
    let address = format!("/console/tokens?environment={ENVIRONMENT}&sort=created");
    let mut rows = |query: &str| {
        let page = browser.page(&format!("{address}{query}"));
        (page.matches("action=\"/console/tokens/revoke\"").count(), page)
    };
    // Times are in seconds: the other tokens are created after the end of this one, so that it is
    // the first.
    countersign_tests::eventually(|| rows("").1.contains("! expired"));
    (0..54).for_each(|_| drop(root.issue(ENVIRONMENT)));
    let (count, first) = rows("");
    assert_eq!(count, 50);
    assert!(first.contains("Page 1 of 2, 55 rows"), "{first}");
    assert!(first.contains("sort=created&amp;page=2\" rel=\"next\""), "{first}");
    assert_eq!(rows("&page=2").0, 5);
    let (agents, page) = rows("&filter=AGENT");
    assert_eq!(agents, 1, "a filter is for all parts: {page}");
    assert!(rows("&filter=nothing").1.contains("No token has this text."));
    assert_eq!(rows("").1.matches("! expired").count(), 1);
}

fn users_are_shown_in_parts(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "");
    let rows = (1..=59).map(|number| format!("('user-{number:02}', 'x', 'database', 0)"));
    let add = "INSERT INTO countersign_user (username, password_hash, auth_method, is_admin)";
    let add = format!("{add} VALUES {}", rows.collect::<Vec<_>>().join(", "));
    query(&sandbox, &add);
    let mut browser = signed_in(&server);
    let first = browser.page("/console/users?sort=-user");
    let shown = names(&first);
    assert_eq!((shown.len(), shown[0], shown[49]), (50, "user-59", "user-10"), "{first}");
    assert!(first.contains("Page 1 of 2, 60 rows"), "{first}");
    assert!(first.contains("sort=-user&amp;page=2\" rel=\"next\""), "{first}");
    let second = browser.page("/console/users?sort=-user&page=2");
    assert_eq!((names(&second).len(), names(&second)[9]), (10, "ann"), "{second}");
    let found = browser.page("/console/users?filter=USER-0");
    assert_eq!(names(&found).len(), 9, "a filter is for all parts: {found}");
    assert!(browser.page("/console/users?filter=nothing").contains("No user has this text."));
    let (users, pages) = AdminApi::root(&server).pages("/users");
    assert_eq!((users.len(), pages), (60, 2), "the same in the Admin API");
}

fn figures_lead_to_their_meaning(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "");
    let mut browser = signed_in(&server);
    let expired = fixture::token(&fixture::claims(json!({ "exp": 1_000_000_000 })));
    assert_eq!(server.auth(&expired).status, 401);
    let mut page = String::new();
    countersign_tests::eventually(|| {
        page = browser.page("/console");
        // In the last refused requests, which are listed at once, and in the figures.
        page.matches("#reason-expired").count() == 2
    });
    let links: Vec<_> = page
        .split("href=\"/console/reference#")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    let reason = "reason-expired";
    assert_eq!(links, ["requests", "refused", "p99", "hits", reason, reason, "p99"]);
    assert!(page.contains("href=\"/console/issuers#issuer-auth_jwt_default\">1 key"), "{page}");
    let reference = browser.page("/console/reference");
    for link in links {
        assert!(reference.contains(&format!("id=\"{link}\"")), "{link} in {reference}");
    }
    let first = browser.page("/console/reference?sort=-count");
    let first = first.split("<tbody>").nth(1).unwrap();
    assert!(
        first.starts_with("<tr><td data-label=\"Code\"><code id=\"reason-expired\""),
        "{first}"
    );
}
