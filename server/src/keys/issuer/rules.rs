//! The rules for the tokens of an `auth_jwt_*` section.

use countersign_engine::{
    AudienceRule, ClaimPath, ClientTypes, Constraint, Rules, TENANT, UsernameRule,
};

use super::IssuerDefaults;
use crate::{
    base::{
        claims::{CLIENT_TYPES_CLAIM, ClientType, ENVIRONMENT_CLAIM, TOKEN_TYPE},
        redacted::quoted,
    },
    config::reader::SectionReader,
};

/// Reads the rules for the tokens of a section.
pub(super) fn read(
    reader: &mut SectionReader<'_>,
    issuer: &str,
    defaults: IssuerDefaults,
    client_types: &[ClientType],
    is_public: bool,
) -> Rules {
    /// Other issuers are on other machines, with other clocks.
    const CLOCK_DIFFERENCE: u32 = 30;
    let leeway =
        reader.optional_number("leeway").unwrap_or(if is_public { CLOCK_DIFFERENCE } else { 0 });
    // The sessions of this server are ended by their `iat`.
    let issued_at_leeway = if reader.flag("sign") { 0 } else { CLOCK_DIFFERENCE };
    let enforce =
        reader.optional_flag("enforce_client_types").unwrap_or(defaults.enforce_client_types);
    let require =
        reader.optional_flag("legacy_require_client_type").unwrap_or(defaults.require_client_type);
    Rules {
        audience: read_audience(reader, issuer),
        token_types: read_token_types(reader),
        require_expiry: reader.optional_flag("require_exp").unwrap_or(is_public),
        max_lifetime: reader.optional_number("max_lifetime"),
        leeway,
        issued_at_leeway,
        numeric_ids: reader.flag("subject_as_text"),
        username: read_username(reader),
        client_types: ClientTypes {
            claim: CLIENT_TYPES_CLAIM.into(),
            when_absent: (!require).then(|| ClientType::Api.name().into()),
            allowed: (enforce && reader.text("client_types").is_some())
                .then(|| client_types.iter().map(|one| one.name().into()).collect()),
        },
        environment_claim: ENVIRONMENT_CLAIM.into(),
        scopes: read_scopes(reader),
        constraints: read_constraints(reader),
        verify_confirmation: reads_confirmation(reader),
        // The rest belongs to other sections, and is set once all sections are read.
        ..Rules::new(issuer)
    }
}

/// Reads the options of the username. A claim that is written down is one that applications rely
/// on, so a token without it is refused. The default, `sub`, is absent from many tokens of
/// machines.
fn read_username(reader: &mut SectionReader<'_>) -> UsernameRule {
    let is_written = reader.text("jwt_username_claim").is_some();
    let claims = read_paths(reader, "jwt_username_claim");
    let is_subject = claims.first().is_some_and(|claim| claim.as_str() == "sub");
    let numeric_subject = is_subject && reader.flag("subject_as_text");
    UsernameRule {
        claims,
        required: reader.optional_flag("username_required").unwrap_or(is_written),
        takes_numbers: reader.flag("username_as_text") || numeric_subject,
        prefix: reader.text_or_default("username_prefix").into(),
    }
}

/// Reads the options of the audience.
fn read_audience(reader: &mut SectionReader<'_>, issuer: &str) -> AudienceRule {
    const MATCHES: [&str; 3] = ["any", "all", "none"];
    let matches = reader.choice("audience_match", &MATCHES, |name| name);
    if matches == "none" {
        return read_unchecked_audience(reader);
    }
    let accepted: Box<[Box<str>]> = match reader.list("audience") {
        Some(audiences) => audiences.into_iter().map(Box::from).collect(),
        None => {
            if issuer.contains(TENANT) {
                let text =
                    format!("audience is required in {}: its issuer has {TENANT}", reader.section);
                reader.error("audience", text, "write the audience of your application");
            }
            [issuer.into()].into()
        }
    };
    if accepted.iter().any(|audience| audience.is_empty()) {
        let text = format!("audience in {} contains an empty text", reader.section);
        reader.error("audience", text, "separate audiences by one comma");
    }
    let claim = reader.text_or_default("audience_claim");
    let required = reader.flag("require_audience");
    if !required {
        let text = format!(
            "{} accepts tokens without {claim}: they may be meant for another application",
            reader.section
        );
        let help = "name the claim that tells applications apart by audience_claim, or demand \
                    it by claims or scopes";
        let is_checked = ["claims", "scopes", "typ"].iter().any(|one| reader.given(one).is_some());
        if !is_checked {
            reader.risk("require_audience", text, help);
        }
    }
    AudienceRule {
        claim: Some(claim).filter(|claim| *claim != "aud").map(ClaimPath::from),
        accepted,
        all: matches == "all",
        required,
    }
}

/// Returns the rule that accepts every audience.
fn read_unchecked_audience(reader: &mut SectionReader<'_>) -> AudienceRule {
    if reader.text("audience").is_some() {
        let text =
            format!("audience in {} is ignored, because of audience_match=none", reader.section);
        reader.error("audience", text, "remove one of the two lines");
    }
    let text = format!("{} accepts tokens that are meant for other applications", reader.section);
    reader.risk("audience_match", text, "write the audience of this application");
    AudienceRule::unchecked()
}

/// Reads `scopes` of any section (RFC 6749 section 3.3).
pub(crate) fn read_scopes(reader: &mut SectionReader<'_>) -> Box<[Box<str>]> {
    let scopes = reader.list("scopes").unwrap_or_default();
    let is_scope = |scope: &&str| {
        !scope.is_empty()
            && scope.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte))
    };
    if let Some(odd) = scopes.iter().find(|scope| !is_scope(scope)) {
        let text = format!("{} in {} is not a scope", quoted(odd), reader.section);
        reader.error("scopes", text, "separate scopes by commas: orders:read, orders:write");
    }
    scopes.into_iter().map(Box::from).collect()
}

/// Reads an option with paths of claims.
fn read_paths(reader: &mut SectionReader<'_>, option: &str) -> Box<[ClaimPath]> {
    let names = reader.list(option).unwrap_or_else(|| vec![reader.default(option)]);
    if names.iter().any(|name| name.is_empty()) {
        let text = format!("{option} in {} contains an empty name", reader.section);
        reader.error(option, text, "separate names by one comma");
    }
    names.into_iter().map(ClaimPath::from).collect()
}

/// Reads `cnf`: whether tokens with this claim are refused without a proof of possession.
fn reads_confirmation(reader: &mut SectionReader<'_>) -> bool {
    const CHOICES: [(&str, bool); 2] = [("verify", true), ("ignore", false)];
    let (_, is_verified) = reader.choice("cnf", &CHOICES, |(name, _)| name);
    if !is_verified {
        let text = format!(
            "cnf is ignored in {}: a stolen token that is bound to a key can be used without it",
            reader.section
        );
        reader.warn("cnf", text, "remove the line, and present bound tokens over mutual TLS");
    }
    is_verified
}

/// Rejects a section that would refuse the tokens it signs, or name our users otherwise than
/// `/api/v2` does.
pub(super) fn check_own_tokens(reader: &mut SectionReader<'_>, rules: &Rules, expire: u64) {
    for (option, is_set, reason) in [
        (
            "username_required",
            rules.username.required,
            "tokens of agents and compilers have no username",
        ),
        (
            "username_prefix",
            !rules.username.prefix.is_empty(),
            "the names of users would not be those of /api/v2",
        ),
        ("audience_claim", rules.audience.claim.is_some(), "its tokens have their audience in aud"),
        ("scopes", !rules.scopes.is_empty(), "its tokens have no scope"),
        (
            "require_exp",
            rules.require_expiry && expire == 0,
            "expire is 0, so its tokens never expire",
        ),
    ] {
        if is_set {
            let text = format!("{option} in {}, which signs: {reason}", reader.section);
            reader.error(option, text, "remove the line");
        }
    }
    if rules
        .token_types
        .as_ref()
        .is_some_and(|types| !types.iter().any(|one| one.eq_ignore_ascii_case(TOKEN_TYPE)))
    {
        let text = format!(
            "{} signs tokens of type {TOKEN_TYPE}, which its typ option refuses",
            reader.section
        );
        reader.error("typ", text, &format!("add {TOKEN_TYPE} to typ, or remove the line"));
    }
    let Some(most) = rules.max_lifetime.filter(|most| expire == 0 || expire > u64::from(*most))
    else {
        return;
    };
    let lifetime = if expire == 0 { "never expire".into() } else { format!("live for {expire} s") };
    let text = format!(
        "tokens signed by {} {lifetime}, which exceeds its max_lifetime of {most} s",
        reader.section
    );
    reader.error("max_lifetime", text, "set expire to max_lifetime or less");
}

/// Reads `typ`: the accepted token types, without `application/` as in RFC 7515 section
/// 4.1.9.
fn read_token_types(reader: &mut SectionReader<'_>) -> Option<Box<[Box<str>]>> {
    let types = reader.list("typ")?;
    if types.is_empty() || types.contains(&"") {
        let text = format!("typ in {} contains an empty type", reader.section);
        let help =
            "write typ = at+jwt, or remove the line to accept tokens without an explicit type";
        reader.error("typ", text, help);
    }
    Some(
        types
            .into_iter()
            .map(|one| one.to_lowercase())
            .map(|one| one.strip_prefix("application/").unwrap_or(&one).into())
            .collect(),
    )
}

/// Reads `claims`, an option of older Inmanta versions: lines of `<value> in <list claim>`
/// and `<claim> is <string>`, with claims by name or path. Any other line is an error, so that the
/// check fails closed.
fn read_constraints(reader: &mut SectionReader<'_>) -> Box<[Constraint]> {
    let mut constraints = Vec::new();
    let text = reader.text("claims").unwrap_or_default();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match parse_constraint(line) {
            Some(constraint) => constraints.push(constraint),
            None => reader.error(
                "claims",
                format!("{} in {} is not a claims expression", quoted(line), reader.section),
                "write <value> in <claim>, or <claim> is <value>, one per line",
            ),
        }
    }
    constraints.into()
}

/// Parses one line of `claims`. The last `in` or `is` between words is the operator, as in
/// Inmanta's greedy regular expression.
fn parse_constraint(line: &str) -> Option<Constraint> {
    let words: Vec<_> = line.split_whitespace().collect();
    let last = words.len().checked_sub(1)?;
    let place = (1..last).rev().find(|place| ["in", "is"].contains(&words[*place]))?;
    let (left, right) = (words[..place].join(" "), words[place + 1..].join(" "));
    Some(match words[place] {
        "in" => Constraint::Contains { claim: ClaimPath::from(&*right), value: left.into() },
        _ => Constraint::Is { claim: ClaimPath::from(&*left), value: right.into() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_constraints_parse_or_fail_closed() {
        let contains = |value: &str, claim: &str| {
            Some(Constraint::Contains { claim: claim.into(), value: value.into() })
        };
        let is = |claim: &str, value: &str| {
            Some(Constraint::Is { claim: claim.into(), value: value.into() })
        };
        assert_eq!(parse_constraint("prod in environments"), contains("prod", "environments"));
        assert_eq!(parse_constraint("type is dc"), is("type", "dc"));
        assert_eq!(parse_constraint("my value  in  my claim"), contains("my value", "my claim"));
        assert_eq!(parse_constraint("a is b is c"), is("a is b", "c"));
        assert_eq!(parse_constraint("x in y"), contains("x", "y"));
        for odd in [
            "prod",
            "in environments",
            "prod in",
            "prod on environments",
            "prodin environments",
            "",
        ] {
            assert_eq!(parse_constraint(odd), None, "{odd}");
        }
    }
}
