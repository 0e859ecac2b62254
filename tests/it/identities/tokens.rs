use std::{thread::sleep, time::Duration};

use countersign_tests::{client::Protocol, http::Response, over_every_protocol};
use serde_json::{Value, json};

use super::{ISSUER, claims, refused, text, with_server};
use crate::{
    fixture::{good_token, now},
    users::Api,
};

over_every_protocol!(
    login_returns_a_token_of_its_own_issuer,
    c67_token_without_ttl_has_the_ceiling,
    c68_expired_token_is_a_token_error,
    c69_forged_or_malformed_token_is_a_token_error,
    c70_call_without_a_token_is_refused,
    c71_renewal_is_another_token_of_the_same_id,
    c72_renewal_ends_at_the_max_ttl,
    c73_expired_token_is_not_renewed,
    c75_revoked_token_is_refused,
    c76_revocation_covers_renewals,
    c77_deletion_of_method_or_identity_kills_its_tokens,
    c78_changed_ttl_applies_to_the_next_login,
    c80_other_tokens_are_not_renewed_or_revoked,
    c81_api_key_is_refused,
    credentials_beside_the_body_are_ignored,
    access_tokens_are_refused_by_other_apis,
    periodic_token_is_renewed_without_end,
);

fn login_returns_a_token_of_its_own_issuer(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let terms = json!({ "accessTokenTTL": 600, "accessTokenMaxTTL": 1000 });
        let machine = api.machine("member", terms);
        let login = api.log_in(&machine).json();
        let token = text(&login["accessToken"]);
        assert_eq!(login["expiresIn"], 600);
        assert_eq!(login["accessTokenMaxTTL"], 1000);
        assert_eq!(login["tokenType"], "Bearer");
        let claims = claims(&token);
        for (name, expected) in [
            ("iss", json!(ISSUER)),
            ("sub", json!(machine.id)),
            ("identityId", json!(machine.id)),
            ("identityAccessTokenId", claims["jti"].clone()),
            ("authTokenType", json!("identityAccessToken")),
            ("identityName", json!("machine")),
            ("authMethod", json!("universal-auth")),
            ("orgId", json!(api.organization)),
            ("ipRestrictionEnabled", json!(false)),
            ("accessTokenTTL", json!(600)),
            ("accessTokenMaxTTL", json!(1000)),
        ] {
            assert_eq!(claims[name], expected, "{name}");
        }
        let lifetime = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
        assert_eq!((lifetime, claims.get("numUsesLimit")), (600, None));

        let allowed = api.server.auth(&token);
        assert_eq!(allowed.status, 200, "{allowed:?}");
        assert_eq!(allowed.header("x-auth-subject"), Some(machine.id.as_str()));
        assert_eq!(allowed.header("x-auth-issuer"), Some(ISSUER));
        for name in ["x-auth-user", "x-auth-client-types", "x-auth-environment"] {
            assert_eq!(allowed.header(name), Some(""), "{name}");
        }
        assert_eq!(api.server.verify(&token).status, 200);
        let details = api.call(&token, "GET /identities/details", "", "").json();
        assert_eq!(details["identityDetails"]["organization"]["id"], api.organization.as_str());
    });
}

fn c67_token_without_ttl_has_the_ceiling(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let terms = json!({ "accessTokenTTL": 0, "accessTokenMaxTTL": 315_360_000 });
        let machine = api.machine("member", terms);
        assert_eq!(api.log_in(&machine).json()["expiresIn"], 7_776_000);
    });
    with_server(protocol, "max_token_age=60", |api| {
        let machine = api.machine("member", json!({}));
        assert_eq!(api.log_in(&machine).json()["expiresIn"], 60);
    });
}

fn c68_expired_token_is_a_token_error(protocol: Protocol) {
    for (options, status) in [("", 403), ("expired_status=401", 401)] {
        with_server(protocol, options, |api| {
            let machine = api.machine("member", json!({ "accessTokenTTL": 1 }));
            let token = api.access_token(&machine);
            wait_until_expired(&token);
            let message = "Your token has expired. Please re-authenticate.";
            refused(&api.call(&token, "GET /identities/details", "", ""), status, message);
            assert_eq!(api.auth(&token), 401);
        });
    }
}

/// Checks that a token was refused as Infisical refuses one that it cannot verify.
#[track_caller]
fn token_error(response: &Response, message: &str) {
    refused(response, 403, message);
    assert_eq!(response.json()["error"], "TokenError");
}

fn c69_forged_or_malformed_token_is_a_token_error(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let machine = api.machine("member", json!({}));
        let token = api.access_token(&machine);
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let other = if signature.starts_with('A') { "B" } else { "A" };
        let forged = format!("{signed}.{other}{}", &signature[1..]);
        let malformed = "The provided access token is malformed. Please use a valid token or \
                         generate a new one and try again.";
        for (token, message) in [(&*forged, "invalid signature"), ("a.b.c", malformed)] {
            token_error(&api.call(token, "GET /identities/details", "", ""), message);
            token_error(&api.renew(token), message);
            token_error(&api.revoke(token), message);
        }
    });
}

fn c70_call_without_a_token_is_refused(protocol: Protocol) {
    with_server(protocol, "", |api| {
        for call in ["GET /identities/details", "POST /identities", "DELETE /identities/x"] {
            let response = api.call("", call, "", "");
            refused(&response, 401, "Token missing");
            assert_eq!(response.json()["error"], "UnauthorizedError");
        }
    });
}

/// Waits for the second in which a token of one second has expired.
fn wait_until_expired(token: &str) {
    let expiry = claims(token)["exp"].as_u64().unwrap();
    while now() < expiry {
        sleep(Duration::from_millis(20));
    }
}

fn c71_renewal_is_another_token_of_the_same_id(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let machine = api.machine("member", json!({ "accessTokenTTL": 600 }));
        let token = api.access_token(&machine);
        let issued_at = claims(&token)["iat"].as_u64().unwrap();
        while now() == issued_at {
            sleep(Duration::from_millis(20));
        }
        let renewal = api.renew(&token);
        assert_eq!(renewal.status, 200, "{renewal:?}");
        let renewal = renewal.json();
        let renewed = text(&renewal["accessToken"]);
        let (old, new) = (claims(&token), claims(&renewed));
        assert!(new["exp"].as_u64() > old["exp"].as_u64());
        for same in ["jti", "creationEpoch", "identityId", "authMethodId"] {
            assert_eq!(new[same], old[same], "{same}");
        }
        assert_eq!((api.auth(&token), api.auth(&renewed)), (200, 200), "the old one stays good");
        assert_eq!(renewal["expiresIn"], 600);
    });
}

fn c72_renewal_ends_at_the_max_ttl(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let terms = json!({ "accessTokenTTL": 3, "accessTokenMaxTTL": 3 });
        let machine = api.machine("member", terms);
        let token = api.access_token(&machine);
        let created = claims(&token)["iat"].as_u64().unwrap();
        while now() == created {
            sleep(Duration::from_millis(20));
        }
        let renewed = text(&api.renew(&token).json()["accessToken"]);
        assert_eq!(claims(&renewed)["exp"], created + 3, "shortened");
        wait_until_expired(&renewed);
        assert_eq!((api.renew(&token).status, api.renew(&renewed).status), (403, 403));
    });
}

fn c73_expired_token_is_not_renewed(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let terms = json!({ "accessTokenTTL": 1, "accessTokenMaxTTL": 600 });
        let token = api.access_token(&api.machine("member", terms));
        wait_until_expired(&token);
        token_error(&api.renew(&token), "Your token has expired. Please re-authenticate.");
    });
}

fn c75_revoked_token_is_refused(protocol: Protocol) {
    with_server(protocol, "", |api| {
        for terms in [json!({}), json!({ "accessTokenNumUsesLimit": 5 })] {
            let machine = api.machine("member", terms);
            let token = api.access_token(&machine);
            assert_eq!(api.auth(&token), 200);
            let done = api.revoke(&token);
            assert_eq!(done.status, 200, "{done:?}");
            let message = json!({ "message": "Successfully revoked access token" });
            assert_eq!(done.json(), message);
            assert_eq!(api.auth(&token), 401);
            assert_eq!(api.server.verify(&token).status, 401);
            refused(&api.renew(&token), 401, "Cannot renew: token has been revoked");
            let call = api.call(&token, "GET /identities/details", "", "");
            refused(&call, 401, "Failed to authorize: token has been revoked");
            assert_eq!(api.revoke(&token).status, 200, "twice");
            assert_eq!(api.auth(&api.access_token(&machine)), 200, "a new login is not concerned");
        }
    });
}

fn c76_revocation_covers_renewals(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let machine = api.machine("member", json!({}));
        let token = api.access_token(&machine);
        let renewed = text(&api.renew(&token).json()["accessToken"]);
        assert_eq!(api.revoke(&token).status, 200);
        assert_eq!((api.auth(&token), api.auth(&renewed)), (401, 401));
    });
}

fn c77_deletion_of_method_or_identity_kills_its_tokens(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let machine = api.machine("member", json!({}));
        let token = api.access_token(&machine);
        assert_eq!(api.auth(&token), 200);
        let method = format!("/auth/universal-auth/identities/{}", machine.id);
        assert_eq!(api.ask(&format!("DELETE {method}")).status, 200);
        assert_eq!(api.auth(&token), 401);
        let details = |token: &str| api.call(token, "GET /identities/details", "", "");
        refused(&details(&token), 401, "Failed to authorize: auth method has been revoked");
        refused(&api.log_in(&machine), 401, "Invalid credentials");
        // A login in the same second, with a method that was attached again.
        let attached = api.send(&format!("POST {method}"), json!({})).json();
        let client_id = text(&attached["identityUniversalAuth"]["clientId"]);
        let secret = api.send(&format!("POST {method}/client-secrets"), json!({})).json();
        let machine = super::MachineCredentials {
            client_id,
            secret: text(&secret["clientSecret"]),
            ..machine
        };
        let token = api.access_token(&machine);
        assert_eq!(api.auth(&token), 200);
        assert_eq!(api.ask(&format!("DELETE /identities/{}", machine.id)).status, 200);
        assert_eq!(api.auth(&token), 401);
        refused(&details(&token), 401, "Failed to authorize: identity tokens have been revoked");
        refused(&api.renew(&token), 401, "Cannot renew: token has been revoked");
    });
}

fn c78_changed_ttl_applies_to_the_next_login(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let machine = api.machine("member", json!({ "accessTokenTTL": 600 }));
        let token = api.access_token(&machine);
        let change = json!({ "accessTokenTTL": 60 });
        let path = format!("PATCH /auth/universal-auth/identities/{}", machine.id);
        assert_eq!(api.send(&path, change).status, 200);
        assert_eq!(api.renew(&token).json()["expiresIn"], 600);
        assert_eq!(api.log_in(&machine).json()["expiresIn"], 60);
    });
}

fn c80_other_tokens_are_not_renewed_or_revoked(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let message = "Token is not an identity access token";
        refused(&api.renew(&good_token()), 400, message);
        refused(&api.revoke(&good_token()), 400, message);
        for odd in ["", "x", "a.b.c"] {
            assert_eq!((api.renew(odd).status, api.revoke(odd).status), (403, 403), "{odd}");
        }
        let without = api.open("POST /auth/token/renew", json!({}));
        super::invalid(&without, "accessToken");
    });
}

fn c81_api_key_is_refused(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let token = api.access_token(&api.machine("member", json!({})));
        let message = "API key authentication is not supported anymore. Please switch to identity \
                       authentication.";
        for token in [&token, ""] {
            let call = api.call(token, "GET /identities/details", "X-API-Key: k\r\n", "");
            refused(&call, 400, message);
        }
    });
}

fn credentials_beside_the_body_are_ignored(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let machine = api.machine("member", json!({}));
        let login = json!({ "clientId": machine.client_id, "clientSecret": machine.secret });
        let open = |call: &str, body: &Value| {
            api.call("stale", call, "X-API-Key: k\r\n", &body.to_string())
        };
        let response = open("POST /auth/universal-auth/login", &login);
        assert_eq!(response.status, 200, "{response:?}");
        let token = json!({ "accessToken": text(&response.json()["accessToken"]) });
        assert_eq!(open("POST /auth/token/renew", &token).status, 200);
        assert_eq!(open("POST /auth/token/revoke", &token).status, 200);
    });
}

fn access_tokens_are_refused_by_other_apis(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let machine = api.machine("admin", json!({}));
        let token = api.access_token(&machine);
        for call in ["GET /user", "GET /current_user", "GET /environment"] {
            assert_eq!(Api::bearing(api.server, &token).ask(call).status, 403, "{call}");
        }
    });
}

fn periodic_token_is_renewed_without_end(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let terms = json!({
            "accessTokenTTL": 5, "accessTokenMaxTTL": 5, "accessTokenPeriod": 900,
        });
        let machine = api.machine("member", terms);
        let login = api.log_in(&machine).json();
        assert_eq!(
            (&login["expiresIn"], &login["accessTokenMaxTTL"]),
            (&json!(900), &json!(1_000_000_000))
        );
        assert_eq!(api.renew(&text(&login["accessToken"])).json()["expiresIn"], 900);
    });
}
