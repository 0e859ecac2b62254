//! The names of an issuer: the options `issuer` and `tenants`.

use std::collections::BTreeMap;

use countersign_engine::{IssuerConfig, IssuerTenants, TENANT, is_tenant};

use crate::{
    base::redacted::quoted,
    config::{problem::Problems, reader::SectionReader, setting::Section},
};

/// Reads the names of an issuer without a check, into a configuration that has nothing else.
pub(super) fn read(reader: &SectionReader<'_>) -> IssuerConfig {
    let mut names = reader.given_list("issuer").into_iter();
    let name = names.next().unwrap_or_else(|| reader.default("issuer"));
    let aliases = names.map(Box::from).collect();
    let tenants = match reader.given_list("tenants")[..] {
        ["*"] => IssuerTenants::Any,
        ref listed => IssuerTenants::Listed(listed.iter().map(|one| (*one).into()).collect()),
    };
    IssuerConfig { aliases, tenants, ..IssuerConfig::new(name, "", []) }
}

/// Checks the names of a section.
pub(super) fn check(issuer: &IssuerConfig, reader: &mut SectionReader<'_>, sign: bool) {
    for name in issuer.names() {
        if issuer.names().filter(|one| *one == name).count() > 1 {
            let text = format!("issuer in {} names {} twice", reader.section, quoted(name));
            return reader.error("issuer", text, "remove one of them");
        }
        let has_tenant = name.contains(TENANT);
        if has_tenant && !is_tenant_template(name) {
            let text =
                format!("{} in {} is not a name with one tenant", quoted(name), reader.section);
            let help = "write {tenantid} once, among visible ASCII characters, such as \
                        https://login.microsoftonline.com/{tenantid}/v2.0";
            return reader.error("issuer", text, help);
        }
    }
    let has_tenants = issuer.has_tenants();
    if has_tenants && let Some(odd) = issuer.names().find(|name| !is_visible(name)) {
        let text = format!("{} in {} is not visible ASCII", quoted(odd), reader.section);
        return reader.error("issuer", text, "percent-encode its other characters");
    }
    check_tenants(&issuer.tenants, reader, sign, has_tenants);
}

fn check_tenants(
    tenants: &IssuerTenants,
    reader: &mut SectionReader<'_>,
    sign: bool,
    has_tenants: bool,
) {
    let section = reader.section;
    match tenants {
        _ if has_tenants && sign => {
            let text = format!("issuer in {section}, which signs, contains a tenant");
            reader.error("issuer", text, "write the one issuer of the tokens signed here");
        }
        IssuerTenants::Listed(tenants) if has_tenants && tenants.is_empty() => {
            let text = format!("tenants is required in {section}: its issuer has {TENANT}");
            let help = "list the tenants whose tokens are accepted, or write tenants = * for \
                        every customer of the provider";
            reader.error("tenants", text, help);
        }
        IssuerTenants::Listed(tenants) if has_tenants => {
            if let Some(odd) = tenants.iter().find(|tenant| !is_tenant(tenant)) {
                let text = format!("{} in {section} is not a tenant", quoted(odd));
                let help = "write ids or names, separated by commas, or * alone";
                reader.error("tenants", text, help);
            }
        }
        IssuerTenants::Any if has_tenants => {
            let text = format!(
                "{section} accepts tokens of every tenant: every customer of the provider can \
                 issue itself tokens for its audience, if the provider lets it"
            );
            reader.risk("tenants", text, "list the tenants, or check them by claims");
        }
        _ if reader.text("tenants").is_some() => {
            let text = format!("tenants in {section} is ignored: its issuer has no {TENANT}");
            reader.warn("tenants", text, "write {tenantid} into issuer, or remove the line");
        }
        _ => {}
    }
}

/// Whether a name has one tenant, among characters that an HTTP header can carry.
fn is_tenant_template(name: &str) -> bool {
    name.matches(TENANT).count() == 1 && is_visible(name)
}

fn is_visible(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'%')
}

/// Checks that no token could be of two sections. Sections with other errors count too.
pub(super) fn check_distinct(
    sections: &BTreeMap<String, Section>,
    names: &[&String],
    problems: &mut Problems,
) {
    let mut seen: Vec<(&str, IssuerConfig)> = Vec::new();
    for section in names {
        let mut reader = SectionReader::new(sections, section, problems);
        let config = read(&reader);
        if let Some((earlier, other)) = seen.iter().find(|(_, one)| one.shares_name_with(&config)) {
            let shared = config.names().find(|name| other.is_named(name)).unwrap_or(&other.name);
            let help = format!(
                "{earlier} also has the issuer {shared}; the default issuer is \
                 https://localhost:8888/"
            );
            reader.error("issuer", "Only one configuration per issuer is supported", &help);
        }
        seen.push((section, config));
    }
}
