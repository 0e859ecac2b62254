//! Header lines of unit tests.

use http::{HeaderMap, HeaderValue, header::IntoHeaderName};

/// Lines with names in lower case.
pub(crate) type Lines<'l> = &'l [(&'static str, &'static str)];

/// Returns these lines, in their order.
pub(crate) fn headers<N: IntoHeaderName + Clone>(lines: &[(N, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(name.clone(), HeaderValue::from_static(value));
    }
    headers
}
