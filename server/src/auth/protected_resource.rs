//! The metadata of the resource that this server protects (RFC 9728), by which a client finds the
//! authorization servers whose tokens are accepted.

use std::net::IpAddr;

use http::{Uri, uri::Scheme};

use crate::{base::route::RESOURCE_METADATA_PATH, config::reader::SectionReader};

/// A protected resource, and the place of its metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtectedResource {
    /// The resource identifier: a URL (RFC 9728 section 1.2).
    pub identifier: String,
    /// The path of its metadata at the host of the resource (RFC 9728 section 3.1).
    metadata_path: String,
}

impl ProtectedResource {
    /// Reads `resource` and `resource_metadata`. Also returns the URL of the metadata, for
    /// challenges.
    pub(super) fn read(server: &mut SectionReader<'_>) -> (Option<Self>, Option<String>) {
        let resource = read_url(server, "resource").map(Self::of_url);
        let metadata = read_url(server, "resource_metadata");
        let url = metadata.as_ref().map(ToString::to_string);
        match (resource, metadata) {
            (Some((resource, derived)), _) => (Some(resource), url.or(Some(derived))),
            (None, Some(metadata)) => (Self::described_at(&metadata), url),
            (None, None) => (None, None),
        }
    }

    /// Returns the resource of an identifier, and the URL of its metadata.
    fn of_url(identifier: Uri) -> (Self, String) {
        // The slash after a host alone is not part of the path to insert.
        let path = Some(identifier.path()).filter(|path| *path != "/").unwrap_or_default();
        let metadata_path = format!("{RESOURCE_METADATA_PATH}{path}");
        let url = format!("{}{metadata_path}", origin(&identifier));
        (Self { identifier: identifier.to_string(), metadata_path }, url)
    }

    /// Returns the resource whose metadata has this URL; `None` if it is not at the well-known
    /// place.
    fn described_at(metadata: &Uri) -> Option<Self> {
        let path = metadata.path().strip_prefix(RESOURCE_METADATA_PATH)?;
        (path.is_empty() || path.starts_with('/')).then(|| Self {
            identifier: format!("{}{path}", origin(metadata)),
            metadata_path: metadata.path().into(),
        })
    }

    /// Whether a path is that of the metadata. At the path without that of the resource, clients
    /// look last.
    #[must_use]
    pub fn is_described_by(&self, path: &str) -> bool {
        path == self.metadata_path || path == RESOURCE_METADATA_PATH
    }
}

fn origin(url: &Uri) -> String {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    format!("{}://{authority}", url.scheme_str().unwrap_or("https"))
}

/// Reads a URL without query and fragment. Its scheme is `https`, but for this machine itself.
fn read_url(server: &mut SectionReader<'_>, option: &str) -> Option<Uri> {
    let text = server.given(option)?;
    let url = text.parse().ok().filter(|url: &Uri| {
        let host = url.host().unwrap_or_default();
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        let is_local = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
        let is_http = url.scheme() == Some(&Scheme::HTTP) && is_local;
        let authority = url.authority().map_or("", |authority| authority.as_str());
        (url.scheme() == Some(&Scheme::HTTPS) || is_http)
            && !authority.contains('@')
            && !text.contains(['?', '#', '"', '\\'])
    });
    if url.is_none() {
        let message =
            format!("{option} in server is not an https URL without a query and a fragment");
        server.error(option, message, "write one such as https://api.example");
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_inserted_between_host_and_path() {
        for (identifier, url) in [
            ("https://a.example", "https://a.example/.well-known/oauth-protected-resource"),
            ("https://a.example/", "https://a.example/.well-known/oauth-protected-resource"),
            (
                "https://a.example:8443/mcp",
                "https://a.example:8443/.well-known/oauth-protected-resource/mcp",
            ),
            (
                "https://a.example/x/y/",
                "https://a.example/.well-known/oauth-protected-resource/x/y/",
            ),
        ] {
            let (resource, derived) = ProtectedResource::of_url(identifier.parse().unwrap());
            assert_eq!(derived, url);
            let path = url.parse::<Uri>().unwrap().path().to_owned();
            assert!(resource.is_described_by(&path), "{path}");
            assert!(resource.is_described_by(RESOURCE_METADATA_PATH));
            assert!(!resource.is_described_by(&format!("{path}x")));
            // Back from the URL of the metadata, but for the slash.
            let found = ProtectedResource::described_at(&url.parse().unwrap()).unwrap();
            let bare = identifier.strip_suffix('/').filter(|bare| bare.matches('/').count() == 2);
            assert_eq!(found.identifier, bare.unwrap_or(identifier));
            assert_eq!(found.metadata_path, resource.metadata_path);
        }
        for other in [
            "https://a.example/metadata",
            "https://a.example/.well-known/oauth-protected-resourcex",
        ] {
            assert_eq!(ProtectedResource::described_at(&other.parse().unwrap()), None);
        }
    }
}
