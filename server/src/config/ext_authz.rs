//! `[ext_authz]`: what Envoy is told over gRPC besides who the caller is.

use super::reader::SectionReader;

/// What Envoy is told.
///
/// # Defaults
/// Nothing that it does not need: an application that is told who its caller is needs no
/// token of his, and claims are for those who ask for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtAuthz {
    /// Whether the application gets the header that the token came in.
    pub forward_credentials: bool,
    /// The claims that Envoy gets as dynamic metadata.
    pub metadata_claims: Vec<String>,
}

impl ExtAuthz {
    pub(super) fn read(reader: &mut SectionReader<'_>) -> Self {
        const CLAIMS: &str = "metadata_claims";
        let names = reader.list(CLAIMS).unwrap_or_default();
        let mut metadata_claims: Vec<String> = Vec::new();
        for name in names {
            if name.is_empty() || metadata_claims.iter().any(|one| one == name) {
                let what = if name.is_empty() {
                    "has a claim without a name".into()
                } else {
                    format!("has {name:?} twice")
                };
                reader.problem(
                    CLAIMS,
                    format!("{CLAIMS} in {} {what}", reader.section),
                    "name each claim once, such as sub,groups",
                );
            }
            metadata_claims.push(name.into());
        }
        Self {
            forward_credentials: reader.flag("forward_credentials").unwrap_or(false),
            metadata_claims,
        }
    }
}
