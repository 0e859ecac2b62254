//! `protocols`: the versions of HTTP of a listener, by ALPN name, or SPOP.

use countersign_front::Protocols;

use super::{options::nearest, reader::SectionReader};
use crate::base::redacted::quoted;

const OPTION: &str = "protocols";
/// The section of the main listener.
const LISTEN_SECTION: &str = "listen";

/// Reads the protocols of a listener.
pub(crate) fn read(reader: &mut SectionReader<'_>, has_tls: bool) -> Protocols {
    let Some(names) = reader.list(OPTION) else { return default(has_tls) };
    if names.is_empty() {
        let text = format!("{OPTION} in {} is empty", reader.section);
        reader.error(
            OPTION,
            text,
            "list any of http/1.1, h2 and h3, or spop alone, or remove the line",
        );
    }
    for name in names.iter().filter(|name| !Protocols::NAMES.contains(name)) {
        let help = match nearest(name, Protocols::NAMES) {
            Some(near) => format!("did you mean {near}?"),
            // The obsolete Upgrade token of RFC 7540, often taken for a protocol name.
            None if *name == "h2c" => {
                "write h2: without TLS, clients use it by prior knowledge".into()
            }
            None => format!("choose from {}", Protocols::NAMES.join(", ")),
        };
        reader.error(
            OPTION,
            format!("{OPTION} in {}: {} is unknown", reader.section, quoted(name)),
            &help,
        );
    }
    let speaks = |name| names.contains(&name);
    let protocols = Protocols {
        http1: speaks("http/1.1"),
        http2: speaks("h2"),
        http3: speaks("h3"),
        spop: speaks("spop"),
    };
    check_spop(reader, protocols);
    if protocols.http3 && !has_tls {
        let text = format!("{OPTION} in {} contains h3, which requires TLS", reader.section);
        reader.error(OPTION, text, "set ssl_cert_file and ssl_key_file");
    }
    protocols
}

/// Rejects SPOP beside HTTP, and on the main listener, which has the API and the probes.
fn check_spop(reader: &mut SectionReader<'_>, protocols: Protocols) {
    let is_main = reader.section == LISTEN_SECTION;
    if protocols.spop && (is_main || protocols != Protocols::SPOP) {
        let text = format!(
            "{OPTION} in {} contains spop, which needs a listener of its own",
            reader.section
        );
        reader.error(OPTION, text, "write protocols = spop alone in a [listener_<name>]");
    }
}

/// Protocols of a listener without the option.
///
/// # Defaults
/// HTTP/2 is off without TLS, because clients can only use it by prior knowledge. HTTP/3 is off
/// because it needs a UDP port that firewalls must allow.
const fn default(has_tls: bool) -> Protocols {
    Protocols { http2: has_tls, ..Protocols::HTTP1 }
}
