//! `[multi_tenancy]`.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use countersign_engine::{ExportedClaim, Verified};

use super::{
    api_keys::{self, ApiKeys, ConfiguredKey},
    identity::TenantIdentity,
    refusal::TenancyRefusal,
    tenant::{TenantAccess, TenantCredential, TenantImpersonation},
    token_claim::{StaleClaimsError, TenantClaim},
};
use crate::{
    base::watched_file::read_text,
    config::{
        options::{ISSUER_PREFIX, MULTI_TENANCY_SECTION, ORCHESTRATE_SURFACE},
        problem::Problems,
        reader::SectionReader,
        setting::Section,
    },
};

/// Settings of multi-tenancy.
#[derive(Debug)]
pub struct TenancySettings {
    /// Whether requests need a credential. Otherwise all of them act for the public tenant.
    pub verifies: bool,
    /// The API keys.
    pub keys: ApiKeys,
    /// The claim with the tenant.
    pub claim: TenantClaim,
    /// Whether refusals have a body.
    pub error_body: bool,
    /// The file with API keys, which is read again when it changes.
    pub key_file: Option<PathBuf>,
}

impl TenancySettings {
    /// Reads the options, if a listener has the `orchestrate` surface. The issuers export the claim
    /// with the tenant after `others`.
    pub(crate) fn read(
        sections: &BTreeMap<String, Section>,
        others: &[ExportedClaim],
        problems: &mut Problems,
    ) -> Option<Self> {
        let mut reader = SectionReader::new(sections, MULTI_TENANCY_SECTION, problems);
        if !has_surface(sections) {
            if reader.is_present() {
                let text = "[multi_tenancy] has no effect: no listener has the orchestrate surface";
                reader.warn("", text, "write surface = orchestrate in [listen]");
            }
            return None;
        }
        let verifies = reader.flag("enabled");
        let key_file = reader.given("api_key_file").map(PathBuf::from);
        let keys = read_keys(&mut reader, key_file.as_deref());
        let has_issuers = sections.keys().any(|name| name.starts_with(ISSUER_PREFIX));
        check_verifiers(&mut reader, verifies, !keys.is_empty(), has_issuers);
        Some(Self {
            verifies,
            keys,
            claim: TenantClaim::new(reader.text_or_default("claims_namespace"), others),
            error_body: reader.flag("error_body"),
            key_file,
        })
    }

    /// Returns the tenant and the user of a token.
    ///
    /// # Errors
    /// The token was verified by the rules of another load of the configuration. The inner error
    /// is a refusal.
    #[inline]
    pub fn credential<'c>(
        &self,
        verified: &'c Verified<'_>,
    ) -> Result<Result<TenantCredential<'c>, TenancyRefusal>, StaleClaimsError> {
        self.claim.read(verified.identity())
    }

    /// Returns the tenant that a request with this token acts for, which asks for one by
    /// `X-Tenant-ID`.
    ///
    /// # Errors
    /// The token does not allow it.
    pub fn acting(
        &self,
        verified: &Verified<'_>,
        asked: &str,
    ) -> Result<TenantIdentity, TenancyRefusal> {
        let asked = TenantImpersonation { tenant: asked.as_bytes(), user: b"" };
        // The caller has the settings with which the token was verified.
        let credential = self.credential(verified).unwrap_or(Err(TenancyRefusal::NoClaim))?;
        Ok(TenantIdentity::new(&TenantAccess::of(credential, asked)?))
    }
}

impl fmt::Display for TenancySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.verifies {
            return f.write_str("allows every request as one of the tenant _");
        }
        let names = self.keys.names().map(|(name, id)| match id {
            Some(id) => format!("{name} (id {id})"),
            None => name.to_owned(),
        });
        let names: Vec<_> = names.collect();
        let keys = if names.is_empty() { "none".into() } else { names.join(", ") };
        write!(f, "takes the tenant from the claim {}; API keys: {keys}", self.claim.name())
    }
}

/// Whether a listener has the `orchestrate` surface.
pub(crate) fn has_surface(sections: &BTreeMap<String, Section>) -> bool {
    let mut surfaces = sections.values().filter_map(|section| section.settings.get("surface"));
    surfaces.any(|surface| surface.text == ORCHESTRATE_SURFACE)
}

/// Rejects settings by which no request could be allowed, and warns about those by which every
/// request is.
fn check_verifiers(
    reader: &mut SectionReader<'_>,
    verifies: bool,
    has_keys: bool,
    has_issuers: bool,
) {
    if !verifies {
        let text = "multi-tenancy is off: every request is allowed, as one of the tenant _";
        let help = "set MULTI_TENANCY_ENABLED, or enabled in [multi_tenancy], to true";
        reader.warn("enabled", text, help);
    } else if !has_keys && !has_issuers {
        let text = "multi-tenancy is on, but nothing can verify a request";
        let help = "set AUTH_JWT_ISSUER_URL, or an auth_jwt_* section, for tokens, and \
                    AUTH_API_KEY, or api_key in [multi_tenancy], for machines";
        reader.error("enabled", text, help);
    } else if !has_issuers {
        let text = "only API keys are accepted: no issuer of tokens is configured";
        reader.warn("enabled", text, "set AUTH_JWT_ISSUER_URL to accept tokens");
    }
}

/// Reads the API keys of both sources, which are valid at the same time.
fn read_keys(reader: &mut SectionReader<'_>, file: Option<&Path>) -> ApiKeys {
    /// The name of the key that is an option itself.
    const NAME: &str = "api_key";
    let mut keys = Vec::new();
    if let Some(text) = reader.given(NAME) {
        match api_keys::read_key(text) {
            Ok(key) => keys.push(ConfiguredKey { name: NAME.into(), key, sources: Vec::new() }),
            Err(error) => reader.error(NAME, format!("{NAME} cannot be used: {error}"), ""),
        }
    }
    warn_of_weak_keys(reader, NAME, &keys);
    let others = file.map(|file| read_key_file(reader, file)).unwrap_or_default();
    warn_of_weak_keys(reader, KEY_FILE, &others);
    keys.extend(others);
    let keys = ApiKeys::new(keys);
    if let Some([first, second]) = keys.same_keys() {
        let text = format!("the API keys {first} and {second} are the same");
        reader.error(KEY_FILE, text, "write one line for it, with all networks of its clients");
    }
    keys
}

const KEY_FILE: &str = "api_key_file";

fn read_key_file(reader: &mut SectionReader<'_>, file: &Path) -> Vec<ConfiguredKey> {
    const MAX_FILE_BYTES: u64 = 1 << 20;
    reader.warn_if_readable_by_all(KEY_FILE, file);
    let text = match read_text(file, MAX_FILE_BYTES) {
        Ok(text) => text,
        Err(error) => {
            let text = format!("cannot read {KEY_FILE}: {}: {error}", file.display());
            reader.error(KEY_FILE, text, "check the path and its permissions");
            return Vec::new();
        }
    };
    api_keys::read_file(&text).unwrap_or_else(|error| {
        let text = format!("{}:{}: {}", file.display(), error.line, error.text);
        reader.error(KEY_FILE, text, "create a key with countersign key generate");
        Vec::new()
    })
}

fn warn_of_weak_keys(reader: &mut SectionReader<'_>, option: &str, keys: &[ConfiguredKey]) {
    for ConfiguredKey { name, key, .. } in keys {
        if let Some(weakness) = key.weakness {
            let text = format!("the API key {name} {weakness}");
            reader.warn(option, text, "create one with countersign key generate");
        }
    }
}
