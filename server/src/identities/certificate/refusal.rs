//! Reasons to refuse a client certificate.

use http::StatusCode;

/// The reason why a client certificate does not log an identity in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CertificateRefusal {
    /// The client's own certificate cannot be decoded.
    UnreadableCertificate,
    /// The client's own certificate is not of X.509 version 3.
    UnsupportedVersion,
    /// Another certificate of the chain cannot be decoded.
    UnreadableChain,
    /// The authority has not issued the certificate.
    NotIssued,
    /// No path leads from the certificate to the authority.
    NoPath,
    /// The certificate has expired.
    Expired,
    /// The certificate is not valid yet.
    NotYetValid,
    /// An authority has expired.
    IssuerExpired,
    /// An authority is not valid yet.
    IssuerNotYetValid,
    /// The extended key usage of an authority excludes clients.
    IssuerUsage,
    /// The extended key usage of the certificate excludes clients.
    ClientUsage,
    /// A name is outside of the name constraints of an authority, or they cannot be checked.
    NameConstraint,
    /// A name constraint for URIs is not a host name.
    UnsupportedNameConstraint,
    /// There are more authorities in the path than one of them permits.
    PathLength,
    /// The certificate, or that of an authority, has been revoked.
    Revoked,
    /// A revocation list has expired, so that it is not known what has been revoked.
    RevocationUnknown,
    /// The certificate is that of an authority.
    CaCertificate,
    /// The common name is not on the list.
    CommonName,
    /// No subject alternative name is on the list.
    AltName,
}

impl CertificateRefusal {
    /// Returns the refusal without a specific reason. `is_chain`: whether the client may present
    /// intermediate authorities.
    pub(super) const fn unverified(is_chain: bool) -> Self {
        if is_chain { Self::NoPath } else { Self::NotIssued }
    }

    /// All refusals.
    pub const ALL: [Self; 19] = [
        Self::UnreadableCertificate,
        Self::UnsupportedVersion,
        Self::UnreadableChain,
        Self::NotIssued,
        Self::NoPath,
        Self::Expired,
        Self::NotYetValid,
        Self::IssuerExpired,
        Self::IssuerNotYetValid,
        Self::IssuerUsage,
        Self::ClientUsage,
        Self::NameConstraint,
        Self::UnsupportedNameConstraint,
        Self::PathLength,
        Self::Revoked,
        Self::RevocationUnknown,
        Self::CaCertificate,
        Self::CommonName,
        Self::AltName,
    ];

    /// Returns the status of the response.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::RevocationUnknown => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNAUTHORIZED,
        }
    }

    /// Returns the code for the audit log. The codes are those of Infisical where it has one.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::UnreadableCertificate => "certificate_unreadable",
            Self::UnsupportedVersion => "certificate_version_unsupported",
            Self::UnreadableChain => "certificate_chain_unreadable",
            Self::NotIssued | Self::NoPath => "ca_verification_failed",
            Self::Expired => "certificate_expired",
            Self::NotYetValid => "certificate_not_yet_valid",
            Self::IssuerExpired => "issuer_certificate_expired",
            Self::IssuerNotYetValid => "issuer_certificate_not_yet_valid",
            Self::IssuerUsage => "issuer_client_auth_usage_not_allowed",
            Self::ClientUsage => "client_auth_usage_not_allowed",
            Self::NameConstraint => "name_constraint_violation",
            Self::UnsupportedNameConstraint => "unsupported_name_constraint",
            Self::PathLength => "path_length_exceeded",
            Self::Revoked => "certificate_revoked",
            Self::RevocationUnknown => "revocation_status_unknown",
            Self::CaCertificate => "ca_certificate_not_allowed",
            Self::CommonName => "common_name_not_allowed",
            Self::AltName => "subject_alt_name_not_allowed",
        }
    }

    /// Returns the text of the response: Infisical's, to the letter, where it has
    /// one.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::UnreadableCertificate => {
                "Access denied: the client certificate could not be decoded."
            }
            Self::UnsupportedVersion => {
                "Access denied: the client certificate is not of X.509 version 3."
            }
            Self::UnreadableChain => "Access denied: the presented chain could not be decoded.",
            Self::NotIssued => "Access denied: Certificate not issued by the provided CA.",
            Self::NoPath => {
                "Access denied: Certificate chain could not be validated against the provided CA."
            }
            Self::Expired => "Access denied: Certificate has expired.",
            Self::NotYetValid => "Access denied: Certificate not yet valid.",
            Self::IssuerExpired => {
                "Access denied: A CA certificate that issued the client certificate has expired."
            }
            Self::IssuerNotYetValid => {
                "Access denied: A CA certificate that issued the client certificate is not yet \
                 valid."
            }
            Self::IssuerUsage => {
                "Access denied: A CA in the certificate chain is not permitted to issue client \
                 authentication certificates."
            }
            Self::ClientUsage => {
                "Access denied: the client certificate is not valid for client authentication."
            }
            Self::NameConstraint => {
                "Access denied: The client certificate's name is outside the namespace its \
                 issuing CA is permitted to certify."
            }
            Self::UnsupportedNameConstraint => {
                "Access denied: A CA in the certificate chain restricts a URI name that is not a \
                 fully qualified domain name, so no client certificate can satisfy it."
            }
            Self::PathLength => {
                "Access denied: The certificate chain has more intermediate CAs than a CA in it \
                 permits."
            }
            Self::Revoked => "Access denied: Certificate has been revoked.",
            Self::RevocationUnknown => {
                "Access denied: the revocation list of a CA in the certificate chain has expired."
            }
            Self::CaCertificate => {
                "Access denied: a CA certificate cannot be used as a client certificate."
            }
            Self::CommonName => "Access denied: TLS Certificate Auth common name not allowed.",
            Self::AltName => {
                "Access denied: TLS Certificate Auth subject alternative name not allowed."
            }
        }
    }
}
