//! Headers with further claims of a token: `claim.<path>` in `[identity_headers]`.

use std::sync::Arc;

use countersign_engine::{ExportFormat, ExportedClaim, Identity};
use http::HeaderName;
use percent_encoding::percent_decode_str;

use crate::{
    base::redacted::quoted,
    client::request_description::is_spelling_of,
    config::{options::CLAIM_PREFIX, reader::SectionReader},
};

/// Headers with further claims, by default none.
#[derive(Clone, Debug, Default)]
pub struct ClaimHeaders {
    /// The names of the headers.
    pub names: Vec<HeaderName>,
    /// The claim of each header. Further ones, which have no header, may follow.
    pub exported: Arc<[ExportedClaim]>,
}

impl ClaimHeaders {
    /// Reads the options. No header may have a name that is `taken`, or look like one.
    pub(super) fn read(reader: &mut SectionReader<'_>, mut taken: Vec<HeaderName>) -> Self {
        let (mut names, mut exported) = (Vec::new(), Vec::new());
        for (path, text) in reader.with_prefix(CLAIM_PREFIX) {
            let option = format!("{CLAIM_PREFIX}{path}");
            let Some(claim) = read_claim(path) else {
                let text = format!("{} names no claim", quoted(&option));
                reader.error(&option, text, "write the name of a claim after claim.");
                continue;
            };
            // An empty name switches a header off.
            let text = text.trim();
            let Some(name) =
                (!text.is_empty()).then(|| reader.parse_header_name(&option, text)).flatten()
            else {
                continue;
            };
            if let Some(problem) = problem_of(&name, &taken) {
                let text = format!("the header {name} cannot carry a claim: {problem}");
                reader.error(&option, text, "choose another name, such as X-Auth-Email");
            }
            taken.push(name.clone());
            names.push(name);
            exported.push(claim);
        }
        Self { names, exported: exported.into() }
    }

    /// Returns the path of each claim, with the name of its header.
    pub fn exported(&self) -> impl Iterator<Item = (&str, &HeaderName)> {
        self.exported.iter().map(|claim| claim.path.as_str()).zip(&self.names)
    }

    /// Returns every header with its value for this caller. Without a caller, all of them are
    /// empty.
    pub(super) fn lines<'l>(
        &'l self,
        caller: Option<Identity<'l>>,
    ) -> impl Iterator<Item = (&'l HeaderName, &'l [u8])> + Clone {
        let caller = caller.filter(|_| !self.names.is_empty());
        let is_current =
            |caller: &Identity<'_>| Arc::ptr_eq(caller.exported_claims(), &self.exported);
        let mut values = caller.filter(is_current).map(Identity::exported_values);
        self.names.iter().enumerate().map(move |(index, name)| match (&mut values, caller) {
            (Some(values), _) => (name, values.next().unwrap_or_default()),
            (None, Some(caller)) => (name, self.value_of_another_load(caller, index)),
            (None, None) => (name, &b""[..]),
        })
    }

    /// Returns the value of a header for a token that was verified by the rules of another load of
    /// the configuration: a reload replaces the rules first, and the headers after them.
    #[cold]
    fn value_of_another_load<'l>(&self, caller: Identity<'l>, index: usize) -> &'l [u8] {
        let wanted = &self.exported[index];
        let index = caller.exported_claims().iter().position(|claim| claim == wanted);
        index.and_then(|index| caller.exported_values().nth(index)).unwrap_or_default()
    }
}

/// Reads a path and the form of its value. Characters that cannot be in the name of an option are
/// percent-encoded.
fn read_claim(path: &str) -> Option<ExportedClaim> {
    let path = percent_decode_str(path).decode_utf8().ok()?;
    let (path, format) = if let Some(path) = path.strip_suffix(".json") {
        (path, ExportFormat::Json)
    } else {
        (path.strip_suffix(".text").unwrap_or(&path), ExportFormat::Text)
    };
    (!path.is_empty()).then(|| ExportedClaim { path: path.into(), format })
}

/// Returns the reason why a header must not carry a claim.
fn problem_of(name: &HeaderName, taken: &[HeaderName]) -> Option<String> {
    let name = name.as_str();
    let is_start = |prefix: &&str| {
        name.get(..prefix.len()).is_some_and(|start| is_spelling_of(start.as_bytes(), prefix))
    };
    let is_name = |other: &&str| is_spelling_of(name.as_bytes(), other);
    if RESERVED.iter().any(is_name) || RESERVED_PREFIXES.iter().any(is_start) {
        return Some("HTTP or proxies give it another meaning".into());
    }
    let mut same = taken.iter().filter(|other| is_spelling_of(name.as_bytes(), other.as_str()));
    let other = same.next()?;
    Some(if other == name {
        "it is already in use".into()
    } else {
        format!("applications may take it for {other}")
    })
}

/// Starts of the names of headers that HTTP or proxies use.
const RESERVED_PREFIXES: &[&str] = &[
    "accept",
    "access-control-",
    "cf-",
    "content-",
    "if-",
    "proxy-",
    "sec-",
    "x-accel-",
    "x-envoy-",
    "x-forwarded-",
    "x-http-method",
    "x-original-",
];

/// Names of headers that HTTP or proxies use.
const RESERVED: &[&str] = &[
    "age",
    "allow",
    "alt-svc",
    "authorization",
    "cache-control",
    "connection",
    "cookie",
    "date",
    "etag",
    "expect",
    "expires",
    "forwarded",
    "from",
    "host",
    "keep-alive",
    "last-modified",
    "link",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "range",
    "referer",
    "refresh",
    "retry-after",
    "server",
    "set-cookie",
    "strict-transport-security",
    "te",
    "trailer",
    "transfer-encoding",
    "true-client-ip",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
    "x-auth-error",
    "x-client-ip",
    "x-forwarded",
    "x-method-override",
    "x-real-ip",
    "x-request-id",
    "x-rewrite-url",
    "x-sendfile",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claim_option_names_path_and_format() {
        let read =
            |option| read_claim(option).map(|claim| (claim.path.as_str().to_owned(), claim.format));
        let (text, json) = (ExportFormat::Text, ExportFormat::Json);
        for (option, path, format) in [
            ("email", "email", text),
            ("user.name", "user.name", text),
            ("/user/name", "/user/name", text),
            ("address.json", "address", json),
            ("data.json.text", "data.json", text),
            ("data.json.json", "data.json", json),
            ("https%3A//idp.example/roles", "https://idp.example/roles", text),
            ("a%3Db%25", "a=b%", text),
            ("json", "json", text),
        ] {
            assert_eq!(read(option), Some((path.to_owned(), format)), "{option}");
        }
        for option in ["", ".json", ".text", "%ff"] {
            assert_eq!(read(option), None, "{option}");
        }
    }

    #[test]
    fn reserved_and_similar_header_names_are_refused() {
        let taken = ["x-auth-user", "x-jwt"].map(HeaderName::from_static);
        let is_refused = |name: &str| {
            problem_of(&HeaderName::from_bytes(name.as_bytes()).unwrap(), &taken).is_some()
        };
        for name in [
            "Host",
            "Authorization",
            "Cookie",
            "Connection",
            "TE",
            "Upgrade",
            "Content-Length",
            "Content-Whatever",
            "X-Forwarded-For",
            "X-Forwarded-User",
            "X_Forwarded_For",
            "Forwarded",
            "Via",
            "Proxy-Authorization",
            "X-Real-IP",
            "X_Real_IP",
            "x-envoy-external-address",
            "Sec-Fetch-Site",
            "X-HTTP-Method-Override",
            "X-Original-URI",
            "Transfer-Encoding",
            "Set-Cookie",
            "X-Auth-User",
            "X_Auth_User",
            "X.Auth~User",
            "X-JWT",
        ] {
            assert!(is_refused(name), "{name}");
        }
        for name in ["X-Auth-Email", "X-Auth-User2", "Remote-Email", "X-Hosts", "Tea", "Iffy"] {
            assert!(!is_refused(name), "{name}");
        }
    }
}
