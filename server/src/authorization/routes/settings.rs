//! Reading and compiling `[routes]` and `[route_<name>]`.

use std::{
    collections::{BTreeMap, HashMap},
    iter,
};

use countersign_engine::{ClaimPath, Constraint, TokenCondition, TokenConditions};

use super::{
    RouteTable, claims,
    pattern::{Coverage, MethodNames, RoutePattern},
    rule::{RequirementKind, RouteCondition, RouteRequirement, RouteRule, RuleKind},
    trie::RouteTrie,
};
use crate::{
    authorization::request_path::EncodedSlash,
    base::{
        claims::{ClientType, IS_ADMIN_CLAIM, ROLES_CLAIM},
        redacted::quoted,
    },
    config::{
        options::{ISSUER_PREFIX, ROUTE_PREFIX, ROUTES_SECTION},
        problem::{Problem, Problems},
        reader::SectionReader,
        setting::Section,
    },
    keys::{IssuerSection, issuer::read_scopes},
    tenancy::tenant_set::TenantSet,
};

/// Claims about rights in this server, to which only issuers that may administer are entitled.
const ADMINISTRATION_CLAIMS: [&str; 2] = [ROLES_CLAIM, IS_ADMIN_CLAIM];

impl RouteTable {
    /// Reads and compiles all rules, and gives the conditions to the issuers. Whether these may
    /// administer is decided before.
    pub(crate) fn read(
        sections: &BTreeMap<String, Section>,
        issuers: &mut [IssuerSection],
        problems: &mut Problems,
    ) -> Self {
        let mut routes = SectionReader::new(sections, ROUTES_SECTION, problems);
        const DEFAULTS: [(&str, bool); 2] = [("deny", false), ("allow", true)];
        let (_, allows_others) = routes.choice("default", &DEFAULTS, |(name, _)| name);
        let roles_claim = routes.text_or_default("roles_claim").trim();
        if roles_claim.is_empty() {
            let help = "write the claim with the roles, or remove the line";
            routes.error("roles_claim", "roles_claim in routes is empty", help);
        }
        let encoded_slash = if routes.flag("allow_encoded_slash") {
            EncodedSlash::Kept
        } else {
            EncodedSlash::Ambiguous
        };
        let mut names: Vec<_> =
            sections.iter().filter(|(name, _)| name.starts_with(ROUTE_PREFIX)).collect();
        names.sort_by_key(|(_, section)| section.order);
        let mut compiler = RouteCompiler {
            sections,
            issuers,
            roles_claim: roles_claim.into(),
            methods: MethodNames::default(),
            conditions: ConditionList::default(),
        };
        let rules: Vec<_> = names
            .into_iter()
            .map(|(name, _)| compiler.rule(&mut SectionReader::new(sections, name, problems)))
            .collect();
        let RouteCompiler { methods, conditions, .. } = compiler;
        warn_of_hidden_patterns(sections, &rules, problems);
        let conditions = TokenConditions::new(conditions.list).unwrap_or_else(|error| {
            let help = "use fewer different scopes, roles, claims, issuers and client types";
            problems.push(Problem::error("[route_*]", error.to_string()).help(help));
            TokenConditions::default()
        });
        note_withheld_claims(&conditions, issuers, problems);
        for issuer in issuers {
            issuer.set_conditions(&conditions, &ADMINISTRATION_CLAIMS);
        }
        let patterns = rules.iter().enumerate().flat_map(|(index, rule): (_, &RouteRule)| {
            rule.patterns.iter().map(move |pattern| (index, pattern))
        });
        let folded = patterns.clone().any(|(_, pattern)| !pattern.is_ascii()).then(|| {
            let folded: Vec<_> =
                patterns.clone().map(|(index, pattern)| (index, pattern.folded())).collect();
            let folded = folded.iter().map(|(index, pattern)| (*index, pattern));
            RouteTrie::new(methods.clone(), folded)
        });
        let trie = RouteTrie::new(methods, patterns);
        Self { trie, folded, rules, conditions, allows_others, encoded_slash }
    }
}

/// The conditions of all rules, each once.
#[derive(Default)]
struct ConditionList {
    list: Vec<TokenCondition>,
    indexes: HashMap<TokenCondition, usize>,
}

impl ConditionList {
    fn index(&mut self, condition: TokenCondition) -> usize {
        *self.indexes.entry(condition).or_insert_with_key(|condition| {
            self.list.push(condition.clone());
            self.list.len() - 1
        })
    }
}

/// Compiles sections to rules.
struct RouteCompiler<'c> {
    sections: &'c BTreeMap<String, Section>,
    issuers: &'c [IssuerSection],
    roles_claim: ClaimPath,
    methods: MethodNames,
    conditions: ConditionList,
}

/// Options that are conditions on tokens, or on the tenants of their requests.
const CONDITIONS: [&str; 6] = ["scopes", "roles", "claims", "issuers", "client_types", TENANTS];
const TENANTS: &str = "tenants";

impl RouteCompiler<'_> {
    fn rule(&mut self, reader: &mut SectionReader<'_>) -> RouteRule {
        if reader.section == ROUTE_PREFIX {
            let help = "write a name, such as [route_orders]";
            reader.error("", "the route of [route_] has no name", help);
        }
        let patterns = self.patterns(reader);
        let kind = read_kind(reader);
        for option in CONDITIONS {
            if reader.text(option).is_some_and(|text| text.trim().is_empty()) {
                let text = format!("{option} in {} is empty", reader.section);
                reader.error(option, text, "remove the line to allow any");
            }
        }
        let scopes = read_scopes(reader);
        let mut requirements: Vec<_> = scopes.iter().map(|scope| self.scope(scope)).collect();
        requirements.extend(self.roles(reader));
        requirements.extend(self.claims(reader));
        requirements.extend(self.issuers(reader));
        requirements.extend(self.client_types(reader));
        requirements.extend(tenants(reader));
        RouteRule {
            name: reader.section.into(),
            patterns,
            kind,
            requirements: requirements.into(),
            scopes: scopes.join(" ").into(),
        }
    }

    fn patterns(&mut self, reader: &mut SectionReader<'_>) -> Box<[RoutePattern]> {
        const HELP: &str = "write methods and a path, such as match = GET /api/orders/*";
        let texts = reader.list("match").unwrap_or_default();
        if texts.is_empty() {
            let text = format!("match is required in {} section", reader.section);
            reader.error("match", text, HELP);
        }
        let mut patterns = Vec::new();
        for text in texts {
            match RoutePattern::parse(text, &mut self.methods) {
                Ok(pattern) => patterns.push(pattern),
                Err(mistake) => {
                    let text = format!("match in {}: {}: {mistake}", reader.section, quoted(text));
                    reader.error("match", text, HELP);
                }
            }
        }
        patterns.into()
    }

    fn requirement(
        &mut self,
        kind: RequirementKind,
        alternatives: impl IntoIterator<Item = TokenCondition>,
        text: String,
    ) -> RouteRequirement {
        let alternatives = alternatives.into_iter().map(|one| self.conditions.index(one));
        let condition = RouteCondition::Token(alternatives.collect());
        RouteRequirement { kind, condition, text: text.into() }
    }

    fn scope(&mut self, scope: &str) -> RouteRequirement {
        let condition = TokenCondition::Scope(scope.into());
        self.requirement(RequirementKind::Scope, [condition], format!("the scope {scope}"))
    }

    fn roles(&mut self, reader: &mut SectionReader<'_>) -> Option<RouteRequirement> {
        let roles = reader.list("roles")?;
        if roles.len() > 1 && roles.contains(&"") {
            let text = format!("roles in {} contains an empty role", reader.section);
            reader.error("roles", text, "separate roles by one comma");
        }
        let claim = self.roles_claim.clone();
        let text = format!("{} in {}", one_of("role", &roles), claim.as_str());
        let conditions: Vec<_> = roles
            .into_iter()
            .map(|role| TokenCondition::Role { claim: claim.clone(), role: role.into() })
            .collect();
        Some(self.requirement(RequirementKind::Role, conditions, text))
    }

    fn claims(&mut self, reader: &mut SectionReader<'_>) -> Vec<RouteRequirement> {
        let text = reader.text("claims").unwrap_or_default();
        let conditions = claims::parse(text).unwrap_or_else(|mistake| {
            let text = format!("claims in {}: {mistake}", reader.section);
            let help = "write <claim> is <value>, or <claim> has <value>, separated by commas, with \
                        values in quotation marks if they have commas or spaces";
            reader.error("claims", text, help);
            Vec::new()
        });
        let of_condition = |alternatives: Vec<Constraint>| {
            let text: Vec<_> = alternatives.iter().map(text_of).collect();
            let conditions = alternatives.into_iter().map(TokenCondition::Claim);
            self.requirement(RequirementKind::Claim, conditions, text.join(" or "))
        };
        conditions.into_iter().map(of_condition).collect()
    }

    fn issuers(&mut self, reader: &mut SectionReader<'_>) -> Option<RouteRequirement> {
        let names = reader.list("issuers")?;
        let mut conditions = Vec::new();
        for name in &names {
            match self.issuer(name) {
                Some(section) => conditions.push(TokenCondition::Issuer(section)),
                None => {
                    let text = format!("{} in {} is not an issuer", quoted(name), reader.section);
                    let known = self.issuers.iter().map(|issuer| short_name(issuer.section()));
                    let known = known.collect::<Vec<_>>().join(", ");
                    let help = format!("write the name of an auth_jwt section: {known}");
                    reader.error("issuers", text, &help);
                }
            }
        }
        let text = format!("the issuer {}", names.join(" or "));
        Some(self.requirement(RequirementKind::Issuer, conditions, text))
    }

    /// Returns the section of an issuer.
    fn issuer(&self, name: &str) -> Option<Box<str>> {
        let section = format!("{ISSUER_PREFIX}{}", short_name(name).to_lowercase());
        // Also a section with errors, which are reported elsewhere.
        if self.sections.contains_key(&section) {
            return Some(section.into());
        }
        let found = self.issuers.iter().find(|one| one.issuer.names().any(|one| *one == *name));
        found.map(|issuer| issuer.section().into())
    }

    fn client_types(&mut self, reader: &mut SectionReader<'_>) -> Option<RouteRequirement> {
        let names = reader.list("client_types")?;
        for name in &names {
            if name.parse::<ClientType>().is_err() {
                let text = format!("invalid client_type {} in {}", quoted(name), reader.section);
                let help = "the client types are agent, compiler and api";
                reader.error("client_types", text, help);
            }
        }
        let text = one_of("client type", &names);
        let conditions = names.iter().map(|name| TokenCondition::ClientType((*name).into()));
        Some(self.requirement(RequirementKind::ClientType, conditions, text))
    }
}

fn tenants(reader: &mut SectionReader<'_>) -> Option<RouteRequirement> {
    let names = reader.list(TENANTS)?;
    let tenants = TenantSet::parse(names.iter().copied()).unwrap_or_else(|mistake| {
        let text = format!("{TENANTS} in {}: {mistake}", reader.section);
        let help = "write names such as acme, acme:* for every level below it, _ for the public \
                    tenant, or * for access to every tenant";
        reader.error(TENANTS, text, help);
        TenantSet::default()
    });
    let condition = RouteCondition::Tenant(tenants);
    let text = one_of("tenant", &names).into();
    Some(RouteRequirement { kind: RequirementKind::Tenant, condition, text })
}

fn short_name(section: &str) -> &str {
    section.strip_prefix(ISSUER_PREFIX).unwrap_or(section)
}

fn one_of(noun: &str, names: &[&str]) -> String {
    match names {
        [name] => format!("the {noun} {name}"),
        names => format!("one of the {noun}s {}", names.join(", ")),
    }
}

fn text_of(constraint: &Constraint) -> String {
    match constraint {
        Constraint::Is { claim, value } => format!("{} is {value}", claim.as_str()),
        Constraint::Contains { claim, value } => format!("{} has {value}", claim.as_str()),
    }
}

/// Reads `deny`, `public` and `anonymous`, which exclude each other. The first two also exclude
/// conditions.
fn read_kind(reader: &mut SectionReader<'_>) -> RuleKind {
    let kinds = [
        ("deny", RuleKind::Deny),
        ("public", RuleKind::Public),
        ("anonymous", RuleKind::Anonymous),
    ];
    let mut kinds = kinds.map(|kind| reader.flag(kind.0).then_some(kind)).into_iter().flatten();
    let Some((option, kind)) = kinds.next() else { return RuleKind::Token };
    let flags = kinds.map(|(other, _)| other);
    let conditions = CONDITIONS.into_iter().filter(|_| kind != RuleKind::Anonymous);
    let conditions = conditions.filter(|condition| reader.text(condition).is_some());
    if let Some(other) = flags.chain(conditions).next() {
        let text = format!("{option} and {other} in {} exclude each other", reader.section);
        reader.error(option, text, &format!("remove {option} or {other}"));
    }
    kind
}

/// Warns of patterns whose requests are all decided by earlier rules.
fn warn_of_hidden_patterns(
    sections: &BTreeMap<String, Section>,
    rules: &[RouteRule],
    problems: &mut Problems,
) {
    for (index, rule) in rules.iter().enumerate() {
        for pattern in &rule.patterns {
            let Some((hiding, coverage)) = hiding_rule(&rules[..index], pattern) else { continue };
            let (name, hiding) = (&rule.name, &hiding.name);
            let text = match coverage {
                Coverage::Exact => format!(
                    "{pattern} in {name} never matches: [{hiding}] before it decides about all of \
                     these requests"
                ),
                Coverage::Variant => format!(
                    "{pattern} in {name} never matches: its requests differ from those of \
                     [{hiding}] before it only in letters' case or a slash at the end, and are \
                     denied as ambiguous"
                ),
            };
            let help = format!("move [{name}] before [{hiding}], or remove the pattern");
            SectionReader::new(sections, name, problems).warn("match", text, &help);
        }
    }
}

/// Returns the last of the rules that together match all requests of a pattern.
fn hiding_rule<'r>(
    earlier: &'r [RouteRule],
    pattern: &RoutePattern,
) -> Option<(&'r RouteRule, Coverage)> {
    let patterns = earlier.iter().flat_map(|rule| iter::repeat(rule).zip(&rule.patterns));
    let (mut methods, mut weakest) = (None, Coverage::Exact);
    for (rule, other) in patterns {
        let Some(coverage) = other.covers(pattern) else { continue };
        if !other.methods.intersects(pattern.methods) {
            continue;
        }
        let all = methods.map_or(other.methods, |methods| other.methods.union(methods));
        methods = Some(all);
        if coverage == Coverage::Variant {
            weakest = Coverage::Variant;
        }
        if all.contains(pattern.methods) {
            return Some((rule, weakest));
        }
    }
    None
}

/// Notes that conditions on the rights in this server do not hold for tokens of some issuers.
fn note_withheld_claims(
    conditions: &TokenConditions,
    issuers: &[IssuerSection],
    problems: &mut Problems,
) {
    let is_withheld =
        |claim: &ClaimPath| ADMINISTRATION_CLAIMS.iter().any(|name| claim.starts_at(name));
    let mut claims = conditions.list().iter().filter_map(|condition| match condition {
        TokenCondition::Claim(constraint) => Some(constraint.claim()),
        TokenCondition::Role { claim, .. } => Some(claim),
        _ => None,
    });
    let Some(claim) = claims.find(|claim| is_withheld(claim)) else { return };
    let others = issuers.iter().filter(|issuer| !issuer.administration.is_granted());
    let others: Vec<_> = others.map(|issuer| format!("[{}]", issuer.section())).collect();
    if !others.is_empty() {
        let text = format!(
            "conditions on {} never hold for tokens of {}, which may not administer",
            claim.as_str(),
            others.join(" and ")
        );
        let help = "write administers = true in a section whose issuer may grant these rights";
        problems.push(Problem::note("[route_*]", text).help(help));
    }
}
