//! The answer of the authorization endpoint, as the browser brings it (RFC 6749 section 4.1.2).

use super::{error::SignInError, metadata::ProviderMetadata, pending::PendingSignIn};

/// Parameters of the query. Nothing in them is verified.
#[derive(Default)]
pub(super) struct CallbackQuery {
    state: Option<String>,
    issuer: Option<String>,
    code: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

impl CallbackQuery {
    /// Reads the query. A parameter must not occur twice (RFC 6749 section 3.1); unknown ones are
    /// ignored.
    pub(super) fn parse(query: &str) -> Result<Self, SignInError> {
        let pairs: Vec<(String, String)> =
            serde_urlencoded::from_str(query).map_err(|_| SignInError::Callback("the query"))?;
        let mut read = Self::default();
        for (name, value) in pairs {
            let (place, name) = match name.as_str() {
                "state" => (&mut read.state, "state"),
                "iss" => (&mut read.issuer, "iss"),
                "code" => (&mut read.code, "code"),
                "error" => (&mut read.error, "error"),
                "error_description" => (&mut read.error_description, "error_description"),
                _ => continue,
            };
            if place.replace(value).is_some() {
                return Err(SignInError::Callback(name));
            }
        }
        Ok(read)
    }

    /// Checks that the answer belongs to the [`PendingSignIn`] which this browser began. Before
    /// this check, nothing of it is used.
    pub(super) fn check_state(&self, pending: &PendingSignIn) -> Result<(), SignInError> {
        let state = self.state.as_deref().ok_or(SignInError::Callback("state"))?;
        if pending.has_state(state) { Ok(()) } else { Err(SignInError::State) }
    }

    /// Checks that the answer is from this provider (RFC 9207 section 2.4), and returns its code.
    pub(super) fn into_code(self, metadata: &ProviderMetadata) -> Result<String, SignInError> {
        let is_expected = match &self.issuer {
            Some(issuer) => *issuer == metadata.issuer,
            None => !metadata.names_issuer,
        };
        if !is_expected {
            return Err(SignInError::ResponseIssuer);
        }
        match (self.code, self.error) {
            (_, Some(error)) => {
                Err(SignInError::of_provider(&error, self.error_description.as_deref()))
            }
            (Some(code), None) if !code.is_empty() => Ok(code),
            _ => Err(SignInError::Callback("code")),
        }
    }
}

#[cfg(test)]
mod tests {
    use countersign_engine::UnixTime;

    use super::{
        super::{
            error::OAuthCode,
            pending::SignInRequest,
            provider::tests::{ISSUER, provider},
        },
        *,
    };

    /// The public key of RFC 8037 appendix A.2.
    const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn finish(pending: &PendingSignIn, query: &str) -> Result<String, SignInError> {
        let query = CallbackQuery::parse(query)?;
        query.check_state(pending)?;
        query.into_code(&provider(X).metadata)
    }

    #[test]
    fn callback_is_checked_before_its_code_is_used() {
        let request = SignInRequest { origin: "https://c", return_to: "", is_fresh: false };
        let pending = PendingSignIn::begin(&request, UnixTime(0)).unwrap();
        let state = &pending.state;
        let good = format!("code=a%2Fb&state={state}&iss={ISSUER}&session_state=x");
        assert_eq!(finish(&pending, &good).as_deref(), Ok("a/b"));
        for (query, error) in [
            (format!("code=a&state={state}x&iss={ISSUER}"), SignInError::State),
            (format!("code=a&state=&iss={ISSUER}"), SignInError::State),
            (format!("code=a&iss={ISSUER}"), SignInError::Callback("state")),
            (format!("{good}&state={state}"), SignInError::Callback("state")),
            (format!("{good}&code=b"), SignInError::Callback("code")),
            (format!("state={state}&iss={ISSUER}"), SignInError::Callback("code")),
            (format!("code=&state={state}&iss={ISSUER}"), SignInError::Callback("code")),
            (format!("code=a&state={state}"), SignInError::ResponseIssuer),
            (format!("code=a&state={state}&iss={ISSUER}/"), SignInError::ResponseIssuer),
            (
                format!("error=access_denied&state={state}&iss=https://evil.example"),
                SignInError::ResponseIssuer,
            ),
            (
                format!("error=access_denied&state={state}&iss={ISSUER}"),
                SignInError::Denied(OAuthCode::new("access_denied")),
            ),
            ("error=access_denied".into(), SignInError::Callback("state")),
        ] {
            assert_eq!(finish(&pending, &query), Err(error), "{query}");
        }
    }

    #[test]
    fn provider_need_not_name_itself() {
        let mut metadata = provider(X).metadata;
        metadata.names_issuer = false;
        let code = |query: &str| CallbackQuery::parse(query).unwrap().into_code(&metadata);
        assert_eq!(code("code=a").as_deref(), Ok("a"));
        assert_eq!(code("code=a&iss=https://other").err(), Some(SignInError::ResponseIssuer));
    }
}
