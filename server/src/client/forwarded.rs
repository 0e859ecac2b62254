//! The elements of `Forwarded` (RFC 7239), each of which describes one hop.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Returns the elements of a line, the last one first.
///
/// A comma within a quoted string does not separate elements. The end of the line was written by
/// the nearest proxy and the beginning possibly by the client, so the quotes are matched from the
/// end: whatever a client sends, it cannot change what a proxy appended.
pub(super) fn elements_from_end(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        let comma = last_comma(line);
        rest = comma.map(|at| &line[..at]);
        Some(comma.map_or(line, |at| &line[at + 1..]))
    })
}

/// Returns the position of the last comma outside of quoted strings.
fn last_comma(line: &[u8]) -> Option<usize> {
    let mut is_quoted = false;
    for (at, byte) in line.iter().enumerate().rev() {
        match byte {
            b'"' => {
                let before = &line[..at];
                let escapes = before.iter().rev().take_while(|byte| **byte == b'\\').count();
                is_quoted = !is_quoted || escapes % 2 == 1;
            }
            b',' if !is_quoted => return Some(at),
            _ => {}
        }
    }
    None
}

/// Returns the address in the parameter `for` of an element.
///
/// Returns `None` if the element is malformed, or names the client differently: by `unknown`, an
/// obfuscated identifier, or not at all.
pub(super) fn address(element: &[u8]) -> Option<IpAddr> {
    let mut rest = std::str::from_utf8(element).ok()?.trim_matches([' ', '\t']);
    let mut node = None;
    loop {
        // Pairs may be empty.
        if !rest.is_empty() && !rest.starts_with(';') {
            let (name, value, after) = pair(rest)?;
            rest = after;
            if name.eq_ignore_ascii_case("for") && node.replace(value).is_some() {
                return None;
            }
        }
        if rest.is_empty() {
            return node_address(node?);
        }
        rest = rest.strip_prefix(';')?;
    }
}

/// Splits a parameter off: its name, its value without quotes, and the text after it. An escape in
/// a quoted value is left as it is: an address has none.
fn pair(text: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = text.split_once('=')?;
    if name.is_empty() || !name.bytes().all(is_token_byte) {
        return None;
    }
    if let Some(rest) = rest.strip_prefix('"') {
        let end = quoted_length(rest)?;
        return Some((name, &rest[..end], &rest[end + 1..]));
    }
    let end = rest.bytes().position(|byte| !is_token_byte(byte)).unwrap_or(rest.len());
    (end > 0).then(|| (name, &rest[..end], &rest[end..]))
}

/// Returns the length of a quoted string up to its closing quote (RFC 9110 section 5.6.4).
fn quoted_length(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            0..b' ' | 0x7f if byte != b'\t' => return None,
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return Some(at),
            _ => {}
        }
    }
    None
}

/// Whether a token may contain this byte (RFC 9110 section 5.6.2).
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Parses the address of a node (RFC 7239 section 6), with or without a port.
fn node_address(node: &str) -> Option<IpAddr> {
    let (address, port) = if let Some(rest) = node.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        (address.parse::<Ipv6Addr>().ok()?.to_canonical(), port)
    } else {
        let (address, port) = node.split_at(node.find(':').unwrap_or(node.len()));
        (address.parse::<Ipv4Addr>().ok()?.into(), port)
    };
    (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then_some(address)
}

/// Whether this is the port of a node: up to five digits, or an obfuscated identifier.
fn is_port(text: &str) -> bool {
    match text.strip_prefix('_') {
        Some(rest) => {
            !rest.is_empty()
                && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        }
        None => (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarded_elements_are_split_from_the_end() {
        for (line, elements) in [
            ("", &[""][..]),
            ("for=1.2.3.4", &["for=1.2.3.4"]),
            ("for=a, for=b,for=c", &["for=c", " for=b", "for=a"]),
            (r#"for="a,b", for="\",\\", for=c"#, &[" for=c", r#" for="\",\\""#, r#"for="a,b""#]),
            // Quotes that the client left open do not reach into the element of the proxy.
            (r#"for="a, for=b"#, &[" for=b", r#"for="a"#]),
            (r#"for="a, for="b""#, &[r#" for="b""#, r#"for="a"#]),
            (r#"for="a\, for="b""#, &[r#" for="b""#, r#"for="a\"#]),
            (",", &["", ""]),
        ] {
            let found: Vec<_> = elements_from_end(line.as_bytes()).collect();
            let expected: Vec<_> = elements.iter().map(|element| element.as_bytes()).collect();
            assert_eq!(found, expected, "{line}");
        }
    }

    #[test]
    fn forwarded_element_names_an_address() {
        for (element, expected) in [
            ("for=192.0.2.43", "192.0.2.43"),
            (" for=192.0.2.43\t", "192.0.2.43"),
            (r#"for="192.0.2.43""#, "192.0.2.43"),
            (r#"for="192.0.2.43:47011""#, "192.0.2.43"),
            (r#"for="192.0.2.43:_port-1.x_y""#, "192.0.2.43"),
            (r#"For="[2001:db8:cafe::17]:4711""#, "2001:db8:cafe::17"),
            (r#"FOR="[2001:db8:cafe::17]""#, "2001:db8:cafe::17"),
            (r#"for="[::ffff:192.0.2.43]:0""#, "192.0.2.43"),
            ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
            (r#"proto=https;host="a;b,c=\"d";for=192.0.2.60"#, "192.0.2.60"),
            (";;for=192.0.2.60;", "192.0.2.60"),
        ] {
            let address = address(element.as_bytes()).map(|address| address.to_string());
            assert_eq!(address.as_deref(), Some(expected), "{element}");
        }
    }

    #[test]
    fn forwarded_element_without_an_address_names_none() {
        for element in [
            "",
            "192.0.2.43",
            "by=192.0.2.43",
            "forx=192.0.2.43",
            "for",
            "for=",
            r#"for="""#,
            "for=unknown",
            "for=_hidden",
            r#"for="_SEVKISEK""#,
            r#"for="unknown:80""#,
            // A port and IPv6 need quotes, and IPv6 brackets.
            "for=192.0.2.43:80",
            "for=[2001:db8::17]",
            "for=2001:db8::17",
            r#"for="2001:db8::17""#,
            r#"for="[192.0.2.43]""#,
            r#"for="[2001:db8::17""#,
            r#"for="[2001:db8::17]80""#,
            r#"for="[fe80::1%eth0]""#,
            r#"for="192.0.2.43:""#,
            r#"for="192.0.2.43:123456""#,
            r#"for="192.0.2.43:+80""#,
            r#"for="192.0.2.43:_""#,
            r#"for="192.0.2.43:_a b""#,
            r#"for="192.0.2.43 ""#,
            "for=192.0.2.256",
            "for=192.0.2.043",
            // Malformed elements.
            "for=192.0.2.43;for=192.0.2.43",
            "for=192.0.2.43;For=198.51.100.1",
            "for=192.0.2.43; proto=http",
            "for=192.0.2.43 ;proto=http",
            "for =192.0.2.43",
            "for= 192.0.2.43",
            "for=192.0.2.43;proto",
            "for=192.0.2.43;=http",
            "for=192.0.2.43;proto=",
            "for=192.0.2.43;pro to=http",
            r#"for="192.0.2.43"#,
            r#"for=192.0.2.43""#,
            r#"for="192.0.2.43"x"#,
            r#"for="\192.0.2.43""#,
            "for=192.0.2.43;host=\"a\u{1}\"",
            "for=192.0.2.43;host=\"a\\\u{7f}\"",
        ] {
            assert_eq!(address(element.as_bytes()), None, "{element}");
        }
        assert_eq!(address(b"for=192.0.2.43;host=\"\xff\""), None);
    }
}
