//! Rules by route, and a token that one of them allows.

use std::fmt::Write as _;

use countersign_engine::{Algorithm, IssuerConfig, Rules, Verified, Verifier};
use countersign_server::{
    authorization::routes::{RouteMatch, RouteTable},
    config::{Config, ConfigFormat, RawConfig, Settings},
};

use crate::{
    ours::padded_key,
    parameters::{AUDIENCE, ISSUER},
    tokens::hs256_token,
};

/// A table of routes, and a request that the last of them allows with its token.
pub struct RoutedRequest {
    /// Verifies the token, and evaluates the conditions of the routes.
    pub verifier: Verifier,
    /// The token.
    pub token: String,
    /// The request target.
    pub target: String,
    settings: Settings,
}

impl RoutedRequest {
    /// Creates `count` routes, each with a scope, a client type, and a condition of its own.
    ///
    /// # Panics
    /// The configuration is invalid.
    #[must_use]
    pub fn new(count: usize, cache_bytes: usize) -> Self {
        let mut text = String::new();
        for number in 0..count {
            let _infallible = write!(
                text,
                "[route_{number}]\nmatch=GET /api/v1/service-{number:04}/items/{{id}}\nscopes=email\n\
                 client_types=api\nclaims=preferred_username is user-{number:06}\n"
            );
        }
        let mut raw = RawConfig::default();
        raw.add("bench", &text, ConfigFormat::Ini);
        let settings =
            Config::from_raw(raw).unwrap_or_else(|problems| panic!("{problems}")).settings;
        let conditions = settings.auth.authorization.routes.conditions().clone();
        let rules = Rules { conditions, ..Rules::new(AUDIENCE) };
        let issuer =
            IssuerConfig { rules, ..IssuerConfig::new(ISSUER, AUDIENCE, [Algorithm::Hs256]) };
        let builder = Verifier::builder().issuer(issuer, padded_key()).cache_bytes(cache_bytes);
        let last = count - 1;
        Self {
            verifier: builder.build().expect("room for a cache"),
            token: hs256_token(ISSUER, last),
            target: format!("/api/v1/service-{last:04}/items/17?expand=lines"),
            settings,
        }
    }

    /// Returns the table of routes.
    #[must_use]
    pub fn table(&self) -> &RouteTable {
        &self.settings.auth.authorization.routes
    }

    /// Whether a request for `target` is allowed with this token.
    #[must_use]
    pub fn allows(&self, target: &str, verified: &Verified<'_>) -> bool {
        match self.table().find("GET", target) {
            RouteMatch::Token(route) => route.authorize(verified, None).is_ok(),
            RouteMatch::Denied(_) | RouteMatch::Public(_) => false,
        }
    }
}
