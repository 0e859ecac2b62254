use super::*;
use crate::{limits, token::JsonBuffers};

const NOW: u64 = 1_700_000_000;

fn rules() -> Rules {
    Rules {
        audience: AudienceRule::new("us"),
        token_types: None,
        logout_tokens: false,
        require_expiry: false,
        max_lifetime: None,
        leeway: 0,
        issued_at_leeway: 0,
        numeric_ids: false,
        username: UsernameRule {
            claims: ["sub".into()].into(),
            required: false,
            takes_numbers: false,
            prefix: "".into(),
        },
        client_types: ClientTypes {
            claim: "ct".into(),
            when_absent: Some("api".into()),
            allowed: Some(Box::new(["api".into(), "agent".into()])),
        },
        environment_claim: "env".into(),
        scopes: Box::new([]),
        constraints: Box::new([]),
        verify_confirmation: true,
        exported_claims: Arc::default(),
        conditions: TokenConditions::default(),
        withheld_claims: Box::default(),
    }
}

/// Checks claims given as JSON members, together with a valid audience.
fn check(rules: &Rules, members: &str) -> Result<Vec<String>, Reject> {
    let comma = if members.is_empty() { "" } else { "," };
    check_all(rules, &format!(r#"{{"aud":"us"{comma}{members}}}"#))
}

fn check_all(rules: &Rules, json: &str) -> Result<Vec<String>, Reject> {
    let mut buffers = JsonBuffers::with_capacity(256);
    let document = buffers.parse(json.as_bytes()).unwrap();
    let claims = ClaimNodes::find(&document);
    let named = rules.find(&claims);
    rules.check(&AuthenticToken {
        token_type: None,
        tenant: None,
        claims: &claims,
        named: &named,
        now: UnixTime(NOW),
        presentation: &Presentation::default(),
    })?;
    Ok(rules
        .client_types
        .join(named.client_types, &mut String::new())
        .split(',')
        .map(str::to_owned)
        .collect())
}

#[test]
fn c2_token_has_expired_in_the_second_of_its_exp() {
    assert!(check(&rules(), r#""exp":1700000001"#).is_ok());
    assert_eq!(check(&rules(), r#""exp":1700000000"#), Err(Reject::Expired));
    assert_eq!(check(&rules(), r#""exp":1700000000.9"#), Err(Reject::Expired));
    assert_eq!(check(&rules(), r#""exp":0"#), Err(Reject::Expired));
    let lenient = Rules { leeway: 10, ..rules() };
    assert!(check(&lenient, r#""exp":1699999991"#).is_ok());
    assert_eq!(check(&lenient, r#""exp":1699999990"#), Err(Reject::Expired));
}

#[test]
fn c7_token_from_the_future_is_refused() {
    assert!(check(&rules(), r#""nbf":1700000000,"iat":1700000000"#).is_ok());
    assert_eq!(check(&rules(), r#""nbf":1700000001"#), Err(Reject::NotYetValid));
    assert_eq!(check(&rules(), r#""iat":1700000001"#), Err(Reject::IssuedInFuture));
    let lenient = Rules { leeway: 10, ..rules() };
    assert!(check(&lenient, r#""nbf":1700000010,"iat":1700000010"#).is_ok());
    assert_eq!(check(&lenient, r#""nbf":1700000011"#), Err(Reject::NotYetValid));
}

#[test]
fn c1_unreadable_time_claim_is_refused() {
    for odd in [
        r#""9999999999""#,
        "null",
        "true",
        "[]",
        "-1",
        "18446744073709551615",
        "1e300",
        r#""abc""#,
        "{}",
    ] {
        assert_eq!(check(&rules(), &format!(r#""exp":{odd}"#)), Err(Reject::ExpiryFormat), "{odd}");
        assert_eq!(
            check(&rules(), &format!(r#""nbf":{odd}"#)),
            Err(Reject::NotBeforeFormat),
            "{odd}"
        );
        assert_eq!(
            check(&rules(), &format!(r#""iat":{odd}"#)),
            Err(Reject::IssuedAtFormat),
            "{odd}"
        );
    }
    let lenient = Rules { leeway: u32::MAX, ..rules() };
    assert!(check(&lenient, r#""nbf":0,"iat":0.5,"exp":1e9"#).is_ok());
}

#[test]
fn c3_audience_must_match() {
    let ok = |json: &str| check_all(&rules(), json).map(drop);
    assert_eq!(ok(r#"{"aud":"us"}"#), Ok(()));
    assert_eq!(ok(r#"{"aud":["them","us"]}"#), Ok(()));
    for json in ["{}", r#"{"aud":[]}"#, r#"{"aud":""}"#, r#"{"aud":null}"#] {
        assert_eq!(ok(json), Err(Reject::AudienceMissing), "{json}");
    }
    for json in [
        r#"{"aud":"them"}"#,
        r#"{"aud":["them"]}"#,
        r#"{"aud":"us/"}"#,
        r#"{"aud":"US"}"#,
        r#"{"aud":"us,them"}"#,
    ] {
        assert_eq!(ok(json), Err(Reject::Audience), "{json}");
    }
    for json in [
        r#"{"aud":5}"#,
        r#"{"aud":true}"#,
        r#"{"aud":["us",5]}"#,
        r#"{"aud":[["us"]]}"#,
        r#"{"aud":{"us":1}}"#,
    ] {
        assert_eq!(ok(json), Err(Reject::AudienceFormat), "{json}");
    }
}

#[test]
fn c6_token_of_another_typ_is_refused() {
    let typed = |rules: &Rules, token_type| check_type(rules, token_type, "{}");
    for other in [
        "dpop+jwt",
        "secevent+jwt",
        "application/logout+jwt",
        "APPLICATION/TOKEN-INTROSPECTION+JWT",
        "+jwt",
    ] {
        assert_eq!(typed(&rules(), Some(other)), Err(Reject::Type), "{other}");
    }
    for fine in [
        None,
        Some("JWT"),
        Some("jwt"),
        Some("at+jwt"),
        Some("application/AT+JWT"),
        Some("Bearer"),
        Some(""),
    ] {
        assert_eq!(typed(&rules(), fine), Ok(()), "{fine:?}");
    }
    let strict = Rules { token_types: Some(Box::new(["at+jwt".into()])), ..rules() };
    for fine in ["at+jwt", "AT+jwt", "application/at+jwt", "Application/At+Jwt"] {
        assert_eq!(typed(&strict, Some(fine)), Ok(()), "{fine}");
    }
    for other in [
        None,
        Some("JWT"),
        Some(""),
        Some("at+jwt "),
        Some("at"),
        Some("x/at+jwt"),
        Some("applicatio\u{e9}at+jwt"),
    ] {
        assert_eq!(typed(&strict, other), Err(Reject::Type), "{other:?}");
    }
}

fn check_type(rules: &Rules, token_type: Option<&str>, json: &str) -> Result<(), Reject> {
    let mut buffers = JsonBuffers::with_capacity(256);
    let document = buffers.parse(json.as_bytes()).unwrap();
    rules.check_type(token_type, &ClaimNodes::find(&document))
}

#[test]
fn c6_logout_token_is_not_another_token() {
    const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
    let logout = format!(r#"{{"events":{{"{EVENT}":{{}}}}}}"#);
    let logout_rules = Rules { logout_tokens: true, ..rules() };
    for usual in [None, Some("JWT")] {
        assert_eq!(check_type(&rules(), usual, &logout), Err(Reject::Type), "{usual:?}");
        assert_eq!(check_type(&logout_rules, usual, &logout), Ok(()), "{usual:?}");
        assert_eq!(check_type(&logout_rules, usual, "{}"), Err(Reject::Type), "{usual:?}");
    }
    for typed in ["logout+jwt", "application/Logout+JWT"] {
        assert_eq!(check_type(&logout_rules, Some(typed), &logout), Ok(()), "{typed}");
        assert_eq!(check_type(&rules(), Some(typed), "{}"), Err(Reject::Type), "{typed}");
    }
    for typed in ["at+jwt", "secevent+jwt"] {
        assert_eq!(check_type(&logout_rules, Some(typed), &logout), Err(Reject::Type), "{typed}");
    }
    // A section that accepts the type does not accept the token.
    let all_types = Rules { token_types: Some(Box::new(["logout+jwt".into()])), ..rules() };
    assert_eq!(check_type(&all_types, Some("logout+jwt"), &logout), Err(Reject::Type));
    // Claims of the same name in access tokens.
    for other in [
        format!(r#"{{"events":["{EVENT}"]}}"#),
        format!(r#"{{"events":"{EVENT}"}}"#),
        r#"{"events":{"other":{}}}"#.to_owned(),
    ] {
        assert_eq!(check_type(&rules(), None, &other), Ok(()), "{other}");
        assert_eq!(check_type(&logout_rules, None, &other), Err(Reject::Type), "{other}");
    }
}

#[test]
fn c7_configured_max_lifetime_is_enforced() {
    let bounded = Rules { max_lifetime: Some(600), ..rules() };
    assert!(check(&bounded, r#""iat":1699999500,"exp":1700000100"#).is_ok());
    for members in [
        r#""iat":1699999500,"exp":1700000101"#,
        r#""iat":1699999500"#,
        r#""exp":1700000100"#,
        "",
        r#""iat":0,"exp":4000000000"#,
    ] {
        assert_eq!(check(&bounded, members), Err(Reject::Lifetime), "{members}");
    }
    assert_eq!(
        check(&bounded, r#""iat":0,"exp":1700000000"#),
        Err(Reject::Expired),
        "checked first"
    );
}

#[test]
fn client_types_are_a_comma_string_or_a_list() {
    let types = |members: &str| check(&rules(), members);
    assert_eq!(types(""), Ok(vec!["api".into()]));
    assert_eq!(types(r#""ct":"agent""#), Ok(vec!["agent".into()]));
    assert_eq!(types(r#""ct":"api, agent""#), Ok(vec!["api".into(), "agent".into()]));
    assert_eq!(types(r#""ct":["api","agent"]"#), Ok(vec!["api".into(), "agent".into()]));
    assert_eq!(types(r#""ct":"api,compiler""#), Err(Reject::ClientTypes));
    assert_eq!(types(r#""ct":["compiler"]"#), Err(Reject::ClientTypes));
    for odd in [
        "7",
        "null",
        r#""""#,
        r#"" ""#,
        r#""api,""#,
        "{}",
        "true",
        r#"[""]"#,
        r#"["api,agent"]"#,
        "[]",
    ] {
        assert_eq!(types(&format!(r#""ct":{odd}"#)), Err(Reject::ClientTypesFormat), "{odd}");
    }
}

#[test]
fn client_types_can_be_open_or_required() {
    let mut open = rules();
    open.client_types.allowed = None;
    assert_eq!(check(&open, r#""ct":"whatever""#), Ok(vec!["whatever".into()]));
    let mut demanded = rules();
    demanded.client_types.when_absent = None;
    assert_eq!(check(&demanded, ""), Err(Reject::ClientTypesMissing));
    let mut agents_only = rules();
    agents_only.client_types.allowed = Some(Box::new(["agent".into()]));
    assert_eq!(
        check(&agents_only, ""),
        Err(Reject::ClientTypes),
        "the default is api, which is not allowed here"
    );
}

#[test]
fn claim_of_the_wrong_type_has_its_own_reject() {
    assert_eq!(check(&rules(), r#""sub":5"#), Err(Reject::SubjectFormat));
    assert_eq!(check(&rules(), r#""sub":null"#), Err(Reject::SubjectFormat));
    assert_eq!(check(&rules(), r#""jti":5"#), Err(Reject::TokenIdFormat));
    assert_eq!(check(&rules(), r#""env":5"#), Err(Reject::EnvironmentFormat));
    assert!(check(&rules(), r#""l":[1],"d":{"x":[1]},"n":1,"f":1.5,"z":null,"b":true"#).is_ok());
}

#[test]
fn list_of_anything_but_strings_is_noticed() {
    let is_mixed = |members: &str| {
        let mut buffers = JsonBuffers::with_capacity(256);
        let document = buffers.parse(format!("{{{members}}}").as_bytes()).unwrap();
        rules().find(&ClaimNodes::find(&document)).has_mixed_list
    };
    assert!(is_mixed(r#""l":[1]"#) && is_mixed(r#""l":["a",{"a":1}],"z":1"#));
    assert!(!is_mixed(r#""l":["a"],"e":[],"d":{"x":[1]},"n":1,"z":null"#));
}

#[test]
fn audience_can_be_one_of_several_or_all() {
    let with = |change: fn(&mut AudienceRule)| {
        let mut rules = rules();
        rules.audience.accepted = ["us".into(), "you".into()].into();
        change(&mut rules.audience);
        rules
    };
    let (any, all) = (with(|_| {}), with(|rule| rule.all = true));
    for (claim, by_any, by_all) in [
        (r#""us""#, true, false),
        (r#""you""#, true, false),
        (r#"["you","them"]"#, true, false),
        (r#"["you","us","them"]"#, true, true),
        (r#""us,you""#, false, false),
        (r#"["them"]"#, false, false),
    ] {
        let json = format!(r#"{{"aud":{claim}}}"#);
        let expected = |fits| if fits { Ok(()) } else { Err(Reject::Audience) };
        assert_eq!(check_all(&any, &json).map(drop), expected(by_any), "{claim}");
        assert_eq!(check_all(&all, &json).map(drop), expected(by_all), "{claim}");
    }
}

#[test]
fn audience_can_be_optional_or_in_another_claim() {
    let mut optional = rules();
    optional.audience.required = false;
    assert!(check_all(&optional, "{}").is_ok() && check_all(&optional, r#"{"aud":null}"#).is_ok());
    assert_eq!(check_all(&optional, r#"{"aud":"them"}"#), Err(Reject::Audience));
    assert_eq!(check_all(&optional, r#"{"aud":[]}"#), Err(Reject::AudienceMissing));
    let mut other = rules();
    other.audience.claim = Some("client_id".into());
    assert!(check_all(&other, r#"{"client_id":"us"}"#).is_ok());
    assert_eq!(check_all(&other, r#"{"aud":"us"}"#), Err(Reject::AudienceMissing));
    assert_eq!(check_all(&other, r#"{"client_id":"them","aud":"us"}"#), Err(Reject::Audience));
}

#[test]
fn every_required_scope_must_be_granted() {
    let demanding = Rules { scopes: ["read".into(), "a:b".into()].into(), ..rules() };
    for claims in [
        r#""scope":"a:b read""#,
        r#""scope":["read","a:b"]"#,
        r#""scp":"read a:b c""#,
        r#""scp":["a:b","read"]"#,
        r#""scope":"read","scp":["a:b"]"#,
    ] {
        assert!(check(&demanding, claims).is_ok(), "{claims}");
    }
    for claims in [
        "",
        r#""scope":"read""#,
        r#""scope":"read,a:b""#,
        r#""scope":"Read a:b""#,
        r#""scope":"reader a:b""#,
        r#""scope":["read a:b"]"#,
        r#""scopes":"read a:b""#,
        r#""scope":{"read":1,"a:b":1}"#,
    ] {
        assert_eq!(check(&demanding, claims), Err(Reject::Scope), "{claims}");
    }
}

#[test]
fn number_can_be_a_subject_or_token_id() {
    let lenient = Rules { numeric_ids: true, ..rules() };
    assert!(check(&lenient, r#""sub":4711,"jti":0"#).is_ok());
    for odd in ["7.5", "1e3", "null", "true", "[1]"] {
        assert_eq!(
            check(&lenient, &format!(r#""sub":{odd}"#)),
            Err(Reject::SubjectFormat),
            "{odd}"
        );
        assert_eq!(
            check(&lenient, &format!(r#""jti":{odd}"#)),
            Err(Reject::TokenIdFormat),
            "{odd}"
        );
    }
}

#[test]
fn issue_time_can_have_a_leeway_of_its_own() {
    let lenient = Rules { issued_at_leeway: 30, leeway: 10, ..rules() };
    assert!(check(&lenient, r#""iat":1700000030"#).is_ok());
    assert_eq!(check(&lenient, r#""iat":1700000031"#), Err(Reject::IssuedInFuture));
    assert_eq!(check(&lenient, r#""nbf":1700000011"#), Err(Reject::NotYetValid));
    let start = |issued_at, not_before| {
        lenient.start(Some(UnixTime(issued_at)), Some(UnixTime(not_before))).map(|at| at.0)
    };
    assert_eq!((start(100, 7), start(100, 90)), (Some(80), Some(90)));
}

#[test]
fn all_constraints_must_hold() {
    let demanding = Rules {
        constraints: Box::new([
            Constraint::Contains { claim: "environments".into(), value: "prod".into() },
            Constraint::Is { claim: "type".into(), value: "dc".into() },
        ]),
        ..rules()
    };
    assert!(check(&demanding, r#""environments":["dev","prod"],"type":"dc""#).is_ok());
    for members in [
        r#""environments":["dev"],"type":"dc""#,
        r#""environments":["prod"],"type":"dcx""#,
        r#""environments":"prod","type":"dc""#,
        r#""environments":["prod"],"type":["dc"]"#,
        r#""environments":["prod"]"#,
        "",
    ] {
        assert_eq!(check(&demanding, members), Err(Reject::Constraints), "{members}");
    }
    let scoped = |claim: &str| Rules {
        constraints: [Constraint::Contains { claim: claim.into(), value: "read".into() }].into(),
        ..rules()
    };
    assert!(check(&scoped("scope"), r#""scope":"write read""#).is_ok());
    assert!(check(&scoped("realm.roles"), r#""realm":{"roles":["read"]}"#).is_ok());
    assert_eq!(check(&scoped("name"), r#""name":"read me""#), Err(Reject::Constraints));
    assert!(check(&scoped("roles"), r#""roles":{"read":{"org":1}}"#).is_ok());
    let is = |value: &str| Rules {
        constraints: [Constraint::Is { claim: "c".into(), value: value.into() }].into(),
        ..rules()
    };
    for (value, claim) in [("true", "true"), ("7", "7"), ("-7", "-7"), ("0", "0"), ("7", r#""7""#)]
    {
        assert!(check(&is(value), &format!(r#""c":{claim}"#)).is_ok(), "{value} {claim}");
    }
    for (value, claim) in [("true", "false"), ("7", "7.0"), ("07", "7"), ("+7", "7"), ("1", "true")]
    {
        assert_eq!(check(&is(value), &format!(r#""c":{claim}"#)), Err(Reject::Constraints));
    }
}

#[test]
fn first_error_in_the_documented_order_is_reported() {
    assert_eq!(
        check_all(&rules(), r#"{"iat":1800000000,"nbf":1800000000,"exp":1,"aud":"x"}"#),
        Err(Reject::IssuedInFuture)
    );
    assert_eq!(
        check_all(&rules(), r#"{"nbf":1800000000,"exp":1,"aud":"x"}"#),
        Err(Reject::NotYetValid)
    );
    assert_eq!(check_all(&rules(), r#"{"exp":1,"aud":"x"}"#), Err(Reject::Expired));
    assert_eq!(check_all(&rules(), r#"{"aud":"x","sub":5}"#), Err(Reject::Audience));
}

#[test]
fn expiry_in_milliseconds_is_refused() {
    const CENTURY: u64 = limits::MAX_TIME_TO_EXPIRY;
    let at = |exp: u64| check(&rules(), &format!(r#""exp":{exp}"#)).map(drop);
    assert_eq!(at(NOW + CENTURY), Ok(()));
    assert_eq!(at(NOW + CENTURY + 1), Err(Reject::ExpiryFormat));
    assert_eq!(at(NOW * 1000), Err(Reject::ExpiryFormat), "in milliseconds");
    assert_eq!(at(limits::MAX_TIME), Err(Reject::ExpiryFormat));
    let text = Reject::ExpiryFormat.to_string();
    assert!(text.contains("looks like milliseconds"), "{text}");
}

#[test]
fn expiry_can_be_required() {
    let strict = Rules { require_expiry: true, ..rules() };
    assert_eq!(check(&strict, r#""iat":1"#), Err(Reject::ExpiryMissing));
    assert!(check(&strict, r#""exp":1700000001"#).is_ok());
    assert_eq!(check(&strict, r#""exp":null"#), Err(Reject::ExpiryFormat));
    assert!(check(&rules(), "").is_ok());
}

#[test]
fn username_and_confirmation_are_checked_last() {
    let mut strict = rules();
    strict.username =
        UsernameRule { claims: ["name".into()].into(), required: true, ..strict.username };
    assert_eq!(check(&strict, r#""cnf":{}"#), Err(Reject::Username));
    assert_eq!(check(&strict, r#""name":null"#), Err(Reject::Username));
    assert_eq!(check(&strict, r#""name":"bob","cnf":{}"#), Err(Reject::Bound));
    assert_eq!(check(&strict, r#""name":5,"cnf":{},"env":5"#), Err(Reject::EnvironmentFormat));
    let ignoring = Rules { verify_confirmation: false, ..strict };
    assert!(check(&ignoring, r#""name":"bob","cnf":{"jkt":"x"}"#).is_ok());
}
