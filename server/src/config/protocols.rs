//! `protocols`: the HTTP versions of a listener, by ALPN name.

use super::{options::nearest, reader::SectionReader};

/// HTTP versions of a [`Listener`](super::Listener).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocols {
    /// HTTP/1.1 and 1.0.
    pub http1: bool,
    /// HTTP/2. Negotiated by ALPN under TLS. Without TLS it is prior knowledge (RFC 9113
    /// section 3.3), detected from the first bytes of a connection.
    pub http2: bool,
    /// HTTP/3, at the same address over UDP.
    pub http3: bool,
}

const NAMES: [&str; 3] = ["http/1.1", "h2", "h3"];

impl Protocols {
    /// HTTP/1.1 and nothing else.
    pub const HTTP1: Self = Self { http1: true, http2: false, http3: false };

    /// Protocols of a listener without the option.
    ///
    /// # Defaults
    /// HTTP/2 is off without TLS, because clients can only use it by prior knowledge.
    /// HTTP/3 is off because it needs a UDP port that firewalls must allow.
    const fn default(has_tls: bool) -> Self {
        Self { http2: has_tls, ..Self::HTTP1 }
    }

    /// Returns the ALPN names of the enabled versions.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        let speaks = [self.http1, self.http2, self.http3];
        NAMES.into_iter().zip(speaks).filter(|(_, speaks)| *speaks).map(|(name, _)| name).collect()
    }

    /// Whether any enabled version uses TCP.
    #[must_use]
    pub const fn use_tcp(self) -> bool {
        self.http1 || self.http2
    }

    /// Returns the ALPN names for TLS over TCP, in order of preference.
    #[must_use]
    pub fn alpn(self) -> Vec<Vec<u8>> {
        let names = [(self.http2, "h2"), (self.http1, "http/1.1")];
        names.into_iter().filter(|(speaks, _)| *speaks).map(|(_, name)| name.into()).collect()
    }

    pub(super) fn read(reader: &mut SectionReader<'_>, has_tls: bool) -> Self {
        const OPTION: &str = "protocols";
        let Some(names) = reader.list(OPTION) else { return Self::default(has_tls) };
        if names.is_empty() {
            let text = format!("{OPTION} in {} is empty", reader.section);
            reader.problem(OPTION, text, "list any of http/1.1, h2 and h3, or remove the line");
        }
        for name in names.iter().filter(|name| !NAMES.contains(name)) {
            let help = match nearest(name, NAMES) {
                Some(near) => format!("did you mean {near}?"),
                // The obsolete Upgrade token of RFC 7540, often taken for a protocol name.
                None if *name == "h2c" => {
                    "write h2: without TLS, clients use it by prior knowledge".into()
                }
                None => format!("choose from {}", NAMES.join(", ")),
            };
            reader.problem(
                OPTION,
                format!("{OPTION} in {}: {name:?} is unknown", reader.section),
                &help,
            );
        }
        let speaks = |name| names.contains(&name);
        let protocols =
            Self { http1: speaks("http/1.1"), http2: speaks("h2"), http3: speaks("h3") };
        if protocols.http3 && !has_tls {
            let text = format!("{OPTION} in {} contains h3, which requires TLS", reader.section);
            reader.problem(OPTION, text, "set ssl_cert_file and ssl_key_file");
        }
        protocols
    }
}
