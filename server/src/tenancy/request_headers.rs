//! The headers of a request that multi-tenancy reads.

use countersign_front::{Fields, only_line};
use http::{HeaderName, header};

use super::{refusal::TenancyRefusal, tenant::TenantImpersonation};

/// Header with an API key.
pub static API_KEY: HeaderName = HeaderName::from_static("x-api-key");
static TENANT: HeaderName = HeaderName::from_static("x-tenant-id");
static USER: HeaderName = HeaderName::from_static("x-username");
static AUTHORIZATION: HeaderName = header::AUTHORIZATION;

/// The API key of a request, and the names that it asks for. Not `Debug`, as it holds a key.
pub struct TenancyHeaders<'h> {
    /// `X-API-Key`, if it is not empty.
    pub api_key: Option<&'h [u8]>,
    /// The names.
    pub asked: TenantImpersonation<'h>,
}

impl<'h> TenancyHeaders<'h> {
    /// Reads the headers.
    ///
    /// # Errors
    /// One of them, or `Authorization`, is repeated: it is unclear which line counts, and an
    /// application could read another one.
    pub fn read(fields: &'h (impl Fields + ?Sized)) -> Result<Self, TenancyRefusal> {
        let only = |name: &HeaderName| {
            let line = only_line(fields, name);
            line.map_err(|_| TenancyRefusal::RepeatedHeader(name.clone()))
        };
        let api_key = only(&API_KEY)?;
        only(&AUTHORIZATION)?;
        let asked = TenantImpersonation {
            tenant: only(&TENANT)?.unwrap_or_default(),
            user: only(&USER)?.unwrap_or_default(),
        };
        Ok(Self { api_key: api_key.filter(|key| !key.is_empty()), asked })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::test_headers::headers;

    #[test]
    fn e4_repeated_tenancy_headers_are_refused() {
        for name in ["x-api-key", "X-Tenant-ID", "X-Username", "Authorization"] {
            for second in ["a", "b", ""] {
                let headers = headers(&[(name, "a"), (name, second)]);
                assert!(
                    matches!(
                        TenancyHeaders::read(&headers),
                        Err(TenancyRefusal::RepeatedHeader(_))
                    ),
                    "{name}"
                );
            }
        }
        let headers = headers(&[("x-api-key", ""), ("x-tenant-id", "t"), ("x-username", "u")]);
        let read = TenancyHeaders::read(&headers).unwrap();
        assert!(read.api_key.is_none());
        assert_eq!(read.asked, TenantImpersonation { tenant: b"t", user: b"u" });
    }
}
