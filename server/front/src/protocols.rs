//! The protocols of a listener.

/// The protocols that a listener supports: versions of HTTP, or SPOP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocols {
    /// HTTP/1.1 and 1.0.
    pub http1: bool,
    /// HTTP/2: under TLS by ALPN, otherwise by prior knowledge (RFC 9113 section 3.3), detected by
    /// the connection preface.
    pub http2: bool,
    /// HTTP/3, at the same address over UDP.
    pub http3: bool,
    /// [SPOP](crate::spop) of HAProxy. It excludes the others.
    pub spop: bool,
}

impl Protocols {
    /// Only HTTP/1.1 and 1.0.
    pub const HTTP1: Self = Self { http1: true, http2: false, http3: false, spop: false };

    /// Only SPOP.
    pub const SPOP: Self = Self { http1: false, spop: true, ..Self::HTTP1 };

    /// The names, in the order of [`Protocols::names`]: ALPN protocol ids (RFC 7301), and `spop`.
    pub const NAMES: [&'static str; 4] = ["http/1.1", "h2", "h3", "spop"];

    /// Returns the names of the supported protocols.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        let spoken = [self.http1, self.http2, self.http3, self.spop];
        let named = Self::NAMES.into_iter().zip(spoken);
        named.filter(|(_, is_spoken)| *is_spoken).map(|(name, _)| name).collect()
    }

    /// Whether the listener accepts TCP connections.
    #[must_use]
    pub const fn use_tcp(self) -> bool {
        self.http1 || self.http2 || self.spop
    }

    /// Returns the ALPN protocol ids that are offered over TCP, in the server's order of preference.
    #[must_use]
    pub fn alpn(self) -> Vec<Vec<u8>> {
        let names = [(self.http2, "h2"), (self.http1, "http/1.1")];
        names.into_iter().filter(|(is_spoken, _)| *is_spoken).map(|(_, name)| name.into()).collect()
    }
}
