//! The credential of a request: the places where a token is looked for.
//!
//! Additional headers have to agree, and take precedence over `Authorization`. A token in a cookie
//! has to agree with every other place, and counts only for requests that no other site can have
//! caused.

use countersign_front::{DuplicateHeader, Fields, only_line};
use http::{HeaderName, header};
use memchr::memchr;

use crate::{base::header_names::is_header, client::RequestDescription};

/// The places where a token is looked for, beside `Authorization`.
#[derive(Clone, Debug, Default)]
pub struct CredentialPlaces {
    /// `None` in the usual case, so that it costs one comparison.
    others: Option<Box<OtherPlaces>>,
}

#[derive(Clone, Debug)]
struct OtherPlaces {
    headers: Vec<HeaderName>,
    cookie: Option<Box<str>>,
}

/// The credential of a request. Not `Debug`, as it holds a token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Credential<'h> {
    /// None, or not a bearer token.
    None,
    /// A token, valid or not.
    Token(&'h [u8]),
    /// The same header more than once, or two tokens of which neither takes precedence.
    Conflict,
    /// A token in a cookie of a request that another site may have caused.
    CrossSite,
}

/// Returns the credential in a query, if it has the parameter `token`.
#[must_use]
pub fn in_query(query: &str) -> Option<Credential<'_>> {
    let mut tokens = query.split('&').filter_map(|pair| pair.strip_prefix("token="));
    let token = tokens.next()?;
    Some(tokens.next().map_or(Credential::Token(token.as_bytes()), |_| Credential::Conflict))
}

impl CredentialPlaces {
    /// Looks into these headers and this cookie, too.
    #[must_use]
    pub fn new(headers: Vec<HeaderName>, cookie: Option<&str>) -> Self {
        let is_used = !headers.is_empty() || cookie.is_some();
        Self {
            others: is_used.then(|| OtherPlaces { headers, cookie: cookie.map(Into::into) }.into()),
        }
    }

    /// The additional headers.
    #[must_use]
    pub fn headers(&self) -> &[HeaderName] {
        self.others.as_ref().map_or(&[], |others| &others.headers)
    }

    /// The name of the cookie with a token.
    #[must_use]
    pub fn cookie(&self) -> Option<&str> {
        self.others.as_ref()?.cookie.as_deref()
    }

    /// Whether the header line with this name may be the credential of a call of the API.
    #[must_use]
    pub fn reads(&self, name: &[u8]) -> bool {
        let mut names = self.headers().iter().chain([&header::AUTHORIZATION]);
        names.any(|header| is_header(name, header))
    }

    /// Returns the credential in the headers of a request. No cookie authorizes a call of the API.
    pub fn in_headers<'h>(&self, fields: &'h impl Fields) -> Credential<'h> {
        match &self.others {
            None => bearer(fields),
            Some(others) => others.in_headers(fields),
        }
    }

    /// Returns the credential of a checked request. `describe` is called only for a token in a
    /// cookie.
    #[inline]
    pub fn of_check<'h>(
        &self,
        fields: &'h impl Fields,
        describe: impl FnOnce() -> RequestDescription<'h>,
    ) -> Credential<'h> {
        match &self.others {
            None => bearer(fields),
            Some(others) => others.of_check(fields, describe),
        }
    }

    /// Whether a request has a credential in any of the places, of whatever scheme.
    pub fn has_any(&self, fields: &impl Fields) -> bool {
        let has_cookie = |name| in_cookie(fields, name) != Credential::None;
        let mut headers = [&header::AUTHORIZATION].into_iter().chain(self.headers());
        headers.any(|name| fields.line(name, 0).is_some()) || self.cookie().is_some_and(has_cookie)
    }

    /// Returns the lines that replace the `Cookie` lines of a request, without the cookie that
    /// carries the token; `None` if the request does not have that cookie.
    #[must_use]
    pub fn other_cookies(&self, fields: &dyn Fields) -> Option<Vec<u8>> {
        let name = self.cookie()?.as_bytes();
        let mut lines = Vec::new();
        fields.each_line(&header::COOKIE, &mut |line| lines.push(line));
        let cookies = || lines.iter().flat_map(|line| cookies(line));
        cookies().any(|cookie| cookie.name == name).then(|| {
            let others = cookies().filter(|cookie| cookie.name != name && !cookie.whole.is_empty());
            others.map(|cookie| cookie.whole).collect::<Vec<_>>().join(&b"; "[..])
        })
    }
}

impl OtherPlaces {
    fn in_headers<'h>(&self, fields: &'h impl Fields) -> Credential<'h> {
        match self.additional(fields) {
            Credential::None => bearer(fields),
            found => found,
        }
    }

    /// Returns the token in the additional headers.
    fn additional<'h>(&self, fields: &'h impl Fields) -> Credential<'h> {
        let lines = self.headers.iter().map(|name| match only_line(fields, name).into() {
            Credential::Token(line) => Credential::Token(after_scheme(line).unwrap_or(line)),
            other => other,
        });
        lines.fold(Credential::None, Credential::and)
    }

    #[inline(never)]
    fn of_check<'h>(
        &self,
        fields: &'h impl Fields,
        describe: impl FnOnce() -> RequestDescription<'h>,
    ) -> Credential<'h> {
        let cookie = self.cookie.as_ref().map_or(Credential::None, |name| in_cookie(fields, name));
        if cookie == Credential::None {
            return self.in_headers(fields);
        }
        // A header proves that no other site has caused the request: browsers would have asked by a
        // preflight.
        let headers = self.additional(fields).and(bearer(fields));
        match (headers, headers.and(cookie)) {
            (Credential::None, Credential::Token(_)) if !describe().may_use_cookie() => {
                Credential::CrossSite
            }
            (_, credential) => credential,
        }
    }
}

impl<'h> Credential<'h> {
    /// Returns the credential in two places, of which neither takes precedence.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::None, found) | (found, Self::None) => found,
            (Self::Token(one), Self::Token(other)) if one == other => self,
            _ => Self::Conflict,
        }
    }
}

impl<'h> From<Result<Option<&'h [u8]>, DuplicateHeader>> for Credential<'h> {
    fn from(line: Result<Option<&'h [u8]>, DuplicateHeader>) -> Self {
        match line {
            Ok(None) => Self::None,
            Ok(Some(line)) => Self::Token(line),
            Err(DuplicateHeader) => Self::Conflict,
        }
    }
}

/// Reads `Authorization` with exactly two parts, the first `Bearer` in any case. Every other
/// scheme is not a bearer token (RFC 6750 section 2.1).
fn bearer(fields: &impl Fields) -> Credential<'_> {
    let found = only_line(fields, &header::AUTHORIZATION).into();
    let Credential::Token(line) = found else { return found };
    match after_scheme(line) {
        Some(token) if memchr(b' ', token).is_none() => Credential::Token(token),
        _ => Credential::None,
    }
}

/// Returns the text after the scheme `Bearer`, in any case, and one or more spaces (RFC 9110
/// section 11.4).
fn after_scheme(line: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = line.split_at_checked(7)?;
    if !scheme.eq_ignore_ascii_case(b"Bearer ") {
        return None;
    }
    let token = rest.iter().position(|byte| *byte != b' ').unwrap_or(rest.len());
    Some(&rest[token..])
}

/// Returns the token in the cookie of this name, in all `Cookie` lines: HTTP/2 and HTTP/3 clients
/// may send each cookie in a line (RFC 9113 section 8.2.3). A cookie without a value has been
/// deleted.
#[inline]
pub(crate) fn in_cookie<'h>(fields: &'h impl Fields, name: &str) -> Credential<'h> {
    let mut found = Credential::None;
    fields.each_line(&header::COOKIE, &mut |line| {
        for cookie in cookies(line).filter(|cookie| cookie.name == name.as_bytes()) {
            found =
                found.and(Credential::Token(after_scheme(cookie.value).unwrap_or(cookie.value)));
        }
    });
    match found {
        Credential::Token(b"") => Credential::None,
        found => found,
    }
}

struct Cookie<'h> {
    /// Name and value, as sent.
    whole: &'h [u8],
    /// The name, which is case-sensitive.
    name: &'h [u8],
    /// The value without quotes.
    value: &'h [u8],
}

/// Iterates over the cookies of a line (RFC 6265 section 4.2.1).
fn cookies(line: &[u8]) -> impl Iterator<Item = Cookie<'_>> {
    line.split(|byte| *byte == b';').map(|pair| {
        let whole = pair.trim_ascii();
        let equals = memchr(b'=', whole).unwrap_or(whole.len());
        let (name, value) = whole.split_at(equals);
        let value = value.strip_prefix(b"=").unwrap_or_default().trim_ascii();
        let quoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        Cookie { whole, name: name.trim_ascii(), value: quoted.unwrap_or(value) }
    })
}

#[cfg(test)]
mod tests {
    use countersign_front::address::UNIX_PEER;
    use http::{HeaderMap, HeaderValue, Method};

    use super::*;
    use crate::base::test_headers::{Lines, headers};
    use crate::client::{
        ClientSettings, original_request::Dialect, request_description::CheckAttributes,
        trusted_proxies::TrustedProxies,
    };

    fn shown(credential: Credential<'_>) -> String {
        match credential {
            Credential::None => "none".into(),
            Credential::Token(token) => String::from_utf8_lossy(token).into_owned(),
            Credential::Conflict => "conflict".into(),
            Credential::CrossSite => "cross-site".into(),
        }
    }

    /// Returns the credential, where the headers `x-jwt` and `x-access-token` are read, too.
    fn credential(lines: Lines<'_>) -> String {
        let names = ["x-jwt", "x-access-token"].map(HeaderName::from_static);
        shown(CredentialPlaces::new(names.into(), None).in_headers(&headers(lines)))
    }

    /// Returns the credential of a request with this method, where the cookie `t` is read, too.
    fn with_cookie(method: &Method, lines: Lines<'_>) -> String {
        let places = CredentialPlaces::new(vec![HeaderName::from_static("x-jwt")], Some("t"));
        let headers = headers(lines);
        let proxies =
            TrustedProxies::new(Vec::new(), true, HeaderName::from_static("x-forwarded-for"));
        let settings = ClientSettings {
            proxies,
            dialect: Dialect::None,
            certificate_header: None,
            allows_preflights: false,
        };
        let describe = || {
            let method = method.as_str().as_bytes();
            let attributes =
                CheckAttributes { method, host: b"h", scheme: b"https", fields: &headers };
            RequestDescription::of_message(&settings, UNIX_PEER, attributes)
        };
        shown(places.of_check(&headers, describe))
    }

    #[test]
    fn a_bearer_token_is_exactly_two_parts() {
        for line in ["Bearer abc", "bEARER abc", "Bearer  abc", "Bearer    abc"] {
            assert_eq!(credential(&[("authorization", line)]), "abc", "{line:?}");
        }
        for line in [
            "abc",
            "Basic abc",
            "Bearer",
            "Bearer abc def",
            "Bearer  abc def",
            "Bearer\tabc",
            "Bearerabc",
            "",
            "Token Bearer abc",
        ] {
            assert_eq!(credential(&[("authorization", line)]), "none", "{line:?}");
        }
    }

    #[test]
    fn e4_repeated_credential_headers_conflict() {
        assert_eq!(credential(&[]), "none");
        let (a, b) = (("authorization", "Bearer a"), ("authorization", "Bearer b"));
        assert_eq!(credential(&[a, a]), "conflict");
        assert_eq!(credential(&[("x-jwt", "a"), ("x-jwt", "a")]), "conflict");
        assert_eq!(credential(&[("x-jwt", "a"), b]), "a");
        assert_eq!(credential(&[("x-jwt", "a"), b, b]), "a");
        assert_eq!(credential(&[("x-jwt", ""), b]), "", "e5: present and worthless is not absent");
    }

    #[test]
    fn additional_headers_may_have_the_scheme() {
        for name in ["x-jwt", "x-access-token"] {
            for line in ["a", "Bearer a", "bearer   a"] {
                assert_eq!(credential(&[(name, line)]), "a", "{name}: {line}");
            }
            assert_eq!(credential(&[(name, "Basic a")]), "Basic a", "not a bearer token");
        }
        let second = ("x-access-token", "Bearer a");
        assert_eq!(credential(&[("x-jwt", "a"), second]), "a", "the same token");
        assert_eq!(credential(&[("x-jwt", "b"), second]), "conflict");
        assert_eq!(credential(&[second, ("authorization", "Bearer b")]), "a");
    }

    #[test]
    fn token_cookie_is_found_by_its_exact_name() {
        let get = |lines: Lines<'_>| with_cookie(&Method::GET, lines);
        for line in [
            "t=a",
            "x=1; t=a; y=2",
            "x=1;t=a",
            "t=\"a\"",
            " t = a ",
            "t=a;",
            "t=a; t=a",
            "T=b; t=a; tt=c",
            "t=\"Bearer a\"",
        ] {
            assert_eq!(get(&[("cookie", line)]), "a", "{line}");
        }
        for line in ["T=a", "t", "xt=a", "t=", "t=\"\"", "", "x=t=a", "x=\"; tt=a\""] {
            assert_eq!(get(&[("cookie", line)]), "none", "{line}");
        }
        assert_eq!(get(&[("cookie", "t=a=b")]), "a=b");
        assert_eq!(get(&[("cookie", "t=\"")]), "\"");
        assert_eq!(get(&[("cookie", "x=1"), ("cookie", "t=a"), ("cookie", "y=2")]), "a");
        for two in ["t=a; t=b", "t=; t=a", "t=a; t=\"b\""] {
            assert_eq!(get(&[("cookie", two)]), "conflict", "{two}");
        }
        assert_eq!(get(&[("cookie", "t=a"), ("cookie", "t=b")]), "conflict");
    }

    #[test]
    fn token_cookie_has_to_agree_with_other_places() {
        let (cookie, same) = (("cookie", "t=a"), ("authorization", "Bearer a"));
        let (jwt, other) = (("x-jwt", "a"), ("authorization", "Bearer b"));
        let post = |lines: Lines<'_>| with_cookie(&Method::POST, lines);
        for lines in [&[cookie, same][..], &[cookie, jwt], &[cookie, jwt, same]] {
            assert_eq!(post(lines), "a", "a header comes from no other site");
        }
        assert_eq!(post(&[cookie]), "cross-site");
        assert_eq!(post(&[cookie, ("authorization", "Basic b")]), "cross-site");
        for lines in [&[cookie, other][..], &[cookie, jwt, other], &[cookie, same, same]] {
            assert_eq!(post(lines), "conflict");
            assert_eq!(with_cookie(&Method::GET, lines), "conflict");
        }
        assert_eq!(post(&[jwt, other]), "a", "without the cookie, as ever");
    }

    #[test]
    fn token_cookie_is_found_among_many_lines() {
        let mut lines = HeaderMap::new();
        for _ in 0..1000 {
            lines.append(header::COOKIE, HeaderValue::from_static("x=1"));
        }
        lines.append(header::COOKIE, HeaderValue::from_static("t=a"));
        assert_eq!(shown(in_cookie(&lines, "t")), "a");
        lines.append(header::COOKIE, HeaderValue::from_static("t=b"));
        assert_eq!(shown(in_cookie(&lines, "t")), "conflict");
    }

    #[test]
    fn other_cookies_are_kept_in_order() {
        let places = CredentialPlaces::new(Vec::new(), Some("t"));
        let rest = |lines: Lines<'_>| {
            places.other_cookies(&headers(lines)).map(|rest| String::from_utf8(rest).unwrap())
        };
        assert_eq!(rest(&[("cookie", "x=1; T=2")]), None);
        assert_eq!(rest(&[("cookie", "t=a")]).as_deref(), Some(""));
        for lines in [
            &[("cookie", "x=1; t=a; y=\"2\"")][..],
            &[("cookie", "x=1"), ("cookie", "t=a"), ("cookie", "y=\"2\"")],
            &[("cookie", "x=1;t =a;; y=\"2\"; t; t=\"a\"")],
        ] {
            assert_eq!(rest(lines).as_deref(), Some("x=1; y=\"2\""), "{lines:?}");
        }
    }
}
