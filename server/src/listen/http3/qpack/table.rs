//! The static table (RFC 9204 appendix A): data, and the way from a name to its lines.

/// A name and a value that an index stands for.
pub(super) type Line = (&'static str, &'static str);

/// The line of an index, if there is one.
pub(super) fn line(index: u64) -> Option<&'static Line> {
    LINES.get(usize::try_from(index).ok()?)
}

/// The index of this line, or else of one with its name.
pub(super) fn find(name: &str, value: &[u8]) -> Option<Found> {
    let first = NAMES[slot(name.as_bytes())?]?;
    let run = LINES[usize::from(first)..].iter().zip(first..);
    let mut run = run.take_while(|((of, _), _)| *of == name).peekable();
    // Another name may have the same slot.
    run.peek()?;
    let same = run.find(|((_, of), _)| of.as_bytes() == value);
    Some(same.map_or(Found::Name(first), |(_, index)| Found::Line(index)))
}

/// What the static table has of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The whole line.
    Line(u8),
    /// Its name.
    Name(u8),
}

/// The first line of each name, by [`slot`]. Pseudo-header fields are not looked up.
static NAMES: [Option<u8>; 256] = {
    let mut names: [Option<u8>; 256] = [None; 256];
    let mut index = 0;
    while index < LINES.len() {
        let name = LINES[index].0.as_bytes();
        if let Some(slot) = slot(name)
            && name[0] != b':'
        {
            match names[slot] {
                None => names[slot] = Some(index as u8),
                Some(other) => assert!(is_same(name, LINES[other as usize].0.as_bytes()), "two names have one slot"),
            }
        }
        index += 1;
    }
    names
};

/// A hash that keeps the names of the table apart.
const fn slot(name: &[u8]) -> Option<usize> {
    let [first, .., before_last, _] = name else { return None };
    Some((name.len() + 21 * *first as usize + 8 * *before_last as usize) % 256)
}

const fn is_same(one: &[u8], other: &[u8]) -> bool {
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

#[rustfmt::skip]
pub(super) static LINES: [Line; 99] = [
    (":authority", ""),
    (":path", "/"),
    ("age", "0"),
    ("content-disposition", ""),
    ("content-length", "0"),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("referer", ""),
    ("set-cookie", ""),
    (":method", "CONNECT"),
    (":method", "DELETE"),
    (":method", "GET"),
    (":method", "HEAD"),
    (":method", "OPTIONS"),
    (":method", "POST"),
    (":method", "PUT"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "103"),
    (":status", "200"),
    (":status", "304"),
    (":status", "404"),
    (":status", "503"),
    ("accept", "*/*"),
    ("accept", "application/dns-message"),
    ("accept-encoding", "gzip, deflate, br"),
    ("accept-ranges", "bytes"),
    ("access-control-allow-headers", "cache-control"),
    ("access-control-allow-headers", "content-type"),
    ("access-control-allow-origin", "*"),
    ("cache-control", "max-age=0"),
    ("cache-control", "max-age=2592000"),
    ("cache-control", "max-age=604800"),
    ("cache-control", "no-cache"),
    ("cache-control", "no-store"),
    ("cache-control", "public, max-age=31536000"),
    ("content-encoding", "br"),
    ("content-encoding", "gzip"),
    ("content-type", "application/dns-message"),
    ("content-type", "application/javascript"),
    ("content-type", "application/json"),
    ("content-type", "application/x-www-form-urlencoded"),
    ("content-type", "image/gif"),
    ("content-type", "image/jpeg"),
    ("content-type", "image/png"),
    ("content-type", "text/css"),
    ("content-type", "text/html; charset=utf-8"),
    ("content-type", "text/plain"),
    ("content-type", "text/plain;charset=utf-8"),
    ("range", "bytes=0-"),
    ("strict-transport-security", "max-age=31536000"),
    ("strict-transport-security", "max-age=31536000; includesubdomains"),
    ("strict-transport-security", "max-age=31536000; includesubdomains; preload"),
    ("vary", "accept-encoding"),
    ("vary", "origin"),
    ("x-content-type-options", "nosniff"),
    ("x-xss-protection", "1; mode=block"),
    (":status", "100"),
    (":status", "204"),
    (":status", "206"),
    (":status", "302"),
    (":status", "400"),
    (":status", "403"),
    (":status", "421"),
    (":status", "425"),
    (":status", "500"),
    ("accept-language", ""),
    ("access-control-allow-credentials", "FALSE"),
    ("access-control-allow-credentials", "TRUE"),
    ("access-control-allow-headers", "*"),
    ("access-control-allow-methods", "get"),
    ("access-control-allow-methods", "get, post, options"),
    ("access-control-allow-methods", "options"),
    ("access-control-expose-headers", "content-length"),
    ("access-control-request-headers", "content-type"),
    ("access-control-request-method", "get"),
    ("access-control-request-method", "post"),
    ("alt-svc", "clear"),
    ("authorization", ""),
    ("content-security-policy", "script-src 'none'; object-src 'none'; base-uri 'none'"),
    ("early-data", "1"),
    ("expect-ct", ""),
    ("forwarded", ""),
    ("if-range", ""),
    ("origin", ""),
    ("purpose", "prefetch"),
    ("server", ""),
    ("timing-allow-origin", "*"),
    ("upgrade-insecure-requests", "1"),
    ("user-agent", ""),
    ("x-forwarded-for", ""),
    ("x-frame-options", "deny"),
    ("x-frame-options", "sameorigin"),
];
