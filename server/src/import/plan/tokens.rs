//! The registry of tokens, and its revocations.

use countersign_engine::{Revocation, RevocationTarget, UnixTime};

use super::{ImportAction, ImportPlanner, ImportValue, InsertOrder, TOKEN};
use crate::{
    import::{ImportError, KindReport, source::SourceToken},
    store::moment,
};

/// Seconds that the revocation of a token lasts after its end: more than the largest leeway that a
/// section allows.
const EXPIRY_LEEWAY: u64 = 86_400;

impl ImportPlanner<'_> {
    /// # Errors
    /// There are tokens, and no section that signed them.
    pub(super) fn plan_tokens(&mut self, tokens: &[SourceToken]) -> Result<(), ImportError> {
        let mut report = KindReport::of("tokens");
        let issuer = self.settings.issuer.clone();
        for token in tokens {
            let Some(issuer) = &issuer else {
                return Err(ImportError::Refused(
                    "the source has registered tokens, but no section here signs tokens\n  help: \
                     copy the section auth_jwt_* with sign=true and its key from the configuration \
                     of that server"
                        .into(),
                ));
            };
            let action = self.plan_token(token, issuer);
            report.count(&token.jti, action);
        }
        self.plan.report.kinds.push(report);
        Ok(())
    }

    fn plan_token(&mut self, token: &SourceToken, issuer: &str) -> ImportAction {
        let known = self.existing.tokens.get(&token.jti).copied();
        if token.revoked_at.is_some() && known != Some(true) {
            self.revoke(token, issuer);
        }
        match (known, token.revoked_at) {
            (Some(false), Some(at)) => {
                let statement = "UPDATE countersign_token SET revoked_at = $1 \
                                 WHERE jti = $2 AND revoked_at IS NULL";
                let parameters =
                    vec![ImportValue::Number(Some(moment(at))), ImportValue::text(&token.jti)];
                self.update(statement, parameters);
                self.existing.tokens.insert(token.jti.clone(), true);
                ImportAction::Change
            }
            (Some(_), _) => ImportAction::Keep,
            (None, _) => self.add_token(token, issuer),
        }
    }

    fn add_token(&mut self, token: &SourceToken, issuer: &str) -> ImportAction {
        let retained_since = self.settings.now.0.saturating_sub(self.settings.token_retention);
        if token.expires_at.is_some_and(|end| end.0 < retained_since) {
            return ImportAction::Skip("skipped, because they expired before token_retention");
        }
        if let Some(environment) = &token.environment
            && !self.existing.environments.contains_key(environment)
        {
            return ImportAction::Skip("skipped, because their environment is not here");
        }
        let time = |at: Option<UnixTime>| ImportValue::Number(at.map(moment));
        let row = vec![
            ImportValue::text(&token.jti),
            ImportValue::text(issuer),
            ImportValue::Text(token.created_by.clone()),
            ImportValue::text(&token.client_types),
            ImportValue::Text(token.environment.clone()),
            time(Some(token.issued_at)),
            time(token.expires_at),
            time(token.revoked_at),
            time(token.last_used),
        ];
        self.insert(InsertOrder::Tokens, row);
        self.existing.tokens.insert(token.jti.clone(), token.revoked_at.is_some());
        ImportAction::Add
    }

    /// Revokes a token that the source revoked, also if it is not registered here: `/auth` does not
    /// consult the registry.
    fn revoke(&mut self, token: &SourceToken, issuer: &str) {
        let is_over = |end: UnixTime| end.plus(EXPIRY_LEEWAY) <= self.settings.now;
        if token.expires_at.is_some_and(is_over) || self.imported(TOKEN, &token.jti).is_some() {
            return;
        }
        self.record(TOKEN, &token.jti, "revoked");
        let target =
            RevocationTarget::TokenId { issuer: issuer.into(), token_id: (*token.jti).into() };
        let until = token.expires_at.map(|end| end.plus(EXPIRY_LEEWAY));
        self.plan.revocations.push(Revocation { target, until });
        self.plan.report.revoked_tokens += 1;
    }
}
