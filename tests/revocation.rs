//! Model test of the revocation table: it has to agree with a linear scan over a list.

use countersign_engine::{
    Algorithm, Reject, Revocation, RevocationTarget, RevocationsWriter, UnixTime, Verifier,
};
use countersign_tests::engine::{
    AUDIENCE, NOW, SECRET, config, secret_keys, sign, signing_input, snapshot, verifier_of,
};
use proptest::prelude::*;
use serde_json::json;

const ISSUERS: [&str; 2] = ["https://idp/", "https://idp"];
const NAMES: [&str; 3] = ["a", "b", ""];

/// Parts of a token that a revocation can refer to.
#[derive(Clone, Debug)]
struct Token {
    issuer: &'static str,
    kid: Option<&'static str>,
    token_id: Option<&'static str>,
    subject: Option<&'static str>,
    environment: Option<&'static str>,
    issued_at: Option<u64>,
}

impl Token {
    fn signing_input(&self) -> String {
        let mut header = json!({ "alg": "HS256" });
        let mut claims = json!({ "iss": self.issuer, "aud": AUDIENCE });
        let mut set = |claim: &str, value: Option<serde_json::Value>| {
            claims.as_object_mut().unwrap().extend(value.map(|value| (claim.into(), value)))
        };
        set("jti", self.token_id.map(Into::into));
        set("sub", self.subject.map(Into::into));
        set("urn:inmanta:env", self.environment.map(Into::into));
        set("iat", self.issued_at.map(Into::into));
        header.as_object_mut().unwrap().extend(self.kid.map(|kid| ("kid".into(), kid.into())));
        signing_input(header.to_string(), claims.to_string())
    }

    /// Returns whether a revocation covers the token, by the definition.
    fn is_revoked_by(&self, revoked: &RevocationTarget) -> bool {
        let is_before =
            |moment: UnixTime| self.issued_at.is_none_or(|issued_at| UnixTime(issued_at) < moment);
        match revoked {
            RevocationTarget::TokenId { issuer, token_id } => {
                **issuer == *self.issuer && self.token_id == Some(token_id)
            }
            RevocationTarget::Subject { issuer, subject, issued_before } => {
                **issuer == *self.issuer
                    && self.subject == Some(subject)
                    && is_before(*issued_before)
            }
            RevocationTarget::Key { issuer, kid } => {
                // An empty kid names no key.
                **issuer == *self.issuer && self.kid.filter(|kid| !kid.is_empty()) == Some(kid)
            }
            RevocationTarget::Environment { issuer, environment } => {
                **issuer == *self.issuer && self.environment == Some(environment)
            }
            RevocationTarget::Everything { issuer, issued_before } => {
                issuer.as_deref().is_none_or(|issuer| issuer == self.issuer)
                    && is_before(*issued_before)
            }
            RevocationTarget::SigningInput(_) => {
                *revoked == RevocationTarget::signing_input(self.signing_input().as_bytes())
            }
        }
    }
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&NAMES[..])
}

fn moment() -> impl Strategy<Value = u64> {
    prop::sample::select(&[0u64, 99, 100, 101, 1_600_000_000][..])
}

fn tokens() -> impl Strategy<Value = Token> {
    let option = || prop::option::of(name());
    // An empty environment is rejected before revocations are looked up.
    let environment = prop::option::of(prop::sample::select(&NAMES[..2]));
    let names = (option(), option(), option(), environment);
    (prop::sample::select(&ISSUERS[..]), names, prop::option::of(moment())).prop_map(
        |(issuer, (kid, token_id, subject, environment), issued_at)| Token {
            issuer,
            kid,
            token_id,
            subject,
            environment,
            issued_at,
        },
    )
}

fn revoked() -> impl Strategy<Value = RevocationTarget> {
    let issuer = || prop::sample::select(&ISSUERS[..]).prop_map(Box::<str>::from);
    prop_oneof![
        4 => (issuer(), name()).prop_map(|(issuer, id)| RevocationTarget::TokenId { issuer, token_id: id.into() }),
        4 => (issuer(), name(), moment()).prop_map(|(issuer, subject, at)| RevocationTarget::Subject { issuer, subject: subject.into(), issued_before: UnixTime(at) }),
        2 => (issuer(), name()).prop_map(|(issuer, kid)| RevocationTarget::Key { issuer, kid: kid.into() }),
        2 => (issuer(), name()).prop_map(|(issuer, name)| {
            RevocationTarget::Environment { issuer, environment: name.into() }
        }),
        1 => (prop::option::of(issuer()), moment()).prop_map(|(issuer, at)| RevocationTarget::Everything { issuer, issued_before: UnixTime(at) }),
        2 => tokens().prop_map(|token| RevocationTarget::signing_input(token.signing_input().as_bytes())),
    ]
}

/// Operation on the revocation table.
#[derive(Clone, Debug)]
enum TableStep {
    Insert(Vec<Revocation>),
    Purge(u64),
    Verify(Token),
}

fn steps() -> impl Strategy<Value = Vec<TableStep>> {
    let revocation = (revoked(), prop::option::of(0u64..20))
        .prop_map(|(target, until)| Revocation { target, until: until.map(UnixTime) });
    let step = prop_oneof![
        3 => prop::collection::vec(revocation, 1..4).prop_map(TableStep::Insert),
        1 => (0u64..20).prop_map(TableStep::Purge),
        6 => tokens().prop_map(TableStep::Verify),
    ];
    prop::collection::vec(step, 1..40)
}

/// Inserts into the list. Two revocations of the same tokens merge into the stricter one.
fn enter(list: &mut Vec<Revocation>, new: &Revocation) {
    let moment = |target: &RevocationTarget| match target {
        RevocationTarget::Subject { issued_before, .. }
        | RevocationTarget::Everything { issued_before, .. } => Some(*issued_before),
        _ => None,
    };
    let subject = |target: &RevocationTarget| {
        let mut target = target.clone();
        if let RevocationTarget::Subject { issued_before, .. }
        | RevocationTarget::Everything { issued_before, .. } = &mut target
        {
            *issued_before = UnixTime(0);
        }
        target
    };
    match list.iter_mut().find(|old| subject(&old.target) == subject(&new.target)) {
        None => list.push(new.clone()),
        Some(old) => {
            if moment(&new.target) > moment(&old.target) {
                old.target = new.target.clone();
            }
            old.until = old.until.zip(new.until).map(|(one, other)| one.max(other));
        }
    }
}

proptest! {
    #[test]
    fn revocation_table_agrees_with_linear_list(steps in steps()) {
        let mut revoker = RevocationsWriter::new(1000);
        let configs = ISSUERS.map(|name| {
            let mut config = config([Algorithm::Hs256]);
            config.name = name.into();
            (config, secret_keys(None, SECRET))
        });
        let verifier = verifier_of(snapshot(configs), Verifier::builder().revocations(revoker.revocations()).cache_bytes(0));
        let mut list: Vec<Revocation> = Vec::new();
        for step in steps {
            match step {
                TableStep::Insert(new) => {
                    revoker.insert(&new).unwrap();
                    new.iter().for_each(|one| enter(&mut list, one));
                }
                TableStep::Purge(now) => {
                    let before = list.len();
                    list.retain(|one| one.until.is_none_or(|until| until > UnixTime(now)));
                    prop_assert_eq!(revoker.purge_expired(UnixTime(now)), before - list.len());
                }
                TableStep::Verify(token) => {
                    let result = verifier.verify(sign(&token.signing_input()).as_bytes(), NOW).err();
                    let revoked = list.iter().any(|one| token.is_revoked_by(&one.target));
                    prop_assert_eq!(result, revoked.then_some(Reject::Revoked), "{:?} under {:?}", token, list);
                }
            }
            prop_assert_eq!(revoker.count(), list.len());
            prop_assert_eq!(revoker.all().len(), list.len());
        }
    }

    #[test]
    fn revocation_is_purged_only_after_token_expiry(token in tokens(), exp in prop::option::of(NOW.0 + 1..NOW.0 + 9)) {
        let mut claims = json!({ "iss": token.issuer, "aud": AUDIENCE, "sub": token.subject.unwrap_or("s") });
        if let Some(exp) = exp {
            claims["exp"] = exp.into();
        }
        if let Some(id) = token.token_id {
            claims["jti"] = id.into();
        }
        let signed = sign(&signing_input(r#"{"alg":"HS256"}"#, claims.to_string()));
        let mut config = config([Algorithm::Hs256]);
        (config.name, config.rules.leeway) = (token.issuer.into(), 5);
        let mut revoker = RevocationsWriter::new(1);
        let verifier = verifier_of(
            snapshot([(config, secret_keys(None, SECRET))]),
            Verifier::builder().revocations(revoker.revocations()).cache_bytes(0),
        );
        prop_assert!(verifier.verify(signed.as_bytes(), NOW).is_ok());
        let revocation = verifier.revocation_of(signed.as_bytes()).unwrap();
        prop_assert_eq!(revocation.until, exp.map(|exp| UnixTime(exp + 5)));
        revoker.insert(&[revocation]).unwrap();
        prop_assert_eq!(verifier.verify(signed.as_bytes(), NOW).err(), Some(Reject::Revoked));
        for moment in NOW.0..NOW.0 + 20 {
            revoker.purge_expired(UnixTime(moment));
            prop_assert!(verifier.verify(signed.as_bytes(), UnixTime(moment)).is_err(), "alive again at {}", moment);
        }
    }
}
