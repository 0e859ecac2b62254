//! `[ext_authz]`: contents of gRPC answers to Envoy beside the caller's identity.

use super::reader::SectionReader;

/// Contents of gRPC answers to Envoy.
///
/// # Defaults
/// Nothing beyond the identity. An application that receives the caller's identity does
/// not need the token, and claims are opt-in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtAuthz {
    /// Whether the application receives the header that carried the token.
    pub forward_credentials: bool,
    /// Claims sent to Envoy as dynamic metadata.
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
                    "contains an empty name".into()
                } else {
                    format!("contains {name:?} twice")
                };
                reader.problem(
                    CLAIMS,
                    format!("{CLAIMS} in {} {what}", reader.section),
                    "list each claim once, such as sub,groups",
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
