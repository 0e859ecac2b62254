//! The combinations of labels that are counted, packed into a word.

use countersign_front::{Peer, TlsParameters};
use rustls::{CipherSuite, ProtocolVersion};

use crate::base::{route::Route, tenant_label::TenantLabel};

/// The methods that are labels. All others are counted as [`OTHER_METHOD`].
const METHODS: [&str; 9] =
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"];
const OTHER_METHOD: &str = "EXTENSION_METHOD";
const UNKNOWN: &str = "unknown";

/// The labels of a request that are known before its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLabels {
    /// Index of the listener.
    pub listener: u8,
    /// The route.
    pub route: Route,
    method: u8,
}

impl RequestLabels {
    /// Returns the labels of a request.
    #[must_use]
    pub fn new(peer: &Peer<'_>, route: Route, method: &str) -> Self {
        let index = METHODS.iter().position(|known| *known == method).unwrap_or(METHODS.len());
        Self { listener: listener_index(peer.listener), route, method: byte(index) }
    }

    /// Returns the method, or a word for all that are not standard.
    #[must_use]
    pub fn method(&self) -> &'static str {
        METHODS.get(usize::from(self.method)).copied().unwrap_or(OTHER_METHOD)
    }
}

/// The version of TLS and the cipher suite of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsLabels {
    version: u16,
    /// 0, which names a suite without encryption, if it is unknown.
    cipher_suite: u16,
}

impl TlsLabels {
    /// Returns the version as `1.3`.
    #[must_use]
    pub fn version(&self) -> &'static str {
        match ProtocolVersion::from(self.version) {
            ProtocolVersion::TLSv1_2 => "1.2",
            ProtocolVersion::TLSv1_3 => "1.3",
            _ => UNKNOWN,
        }
    }

    /// Returns the cipher suite by its registered name, as `TLS_AES_128_GCM_SHA256`.
    #[must_use]
    pub fn cipher_suite(&self) -> String {
        let suite = CipherSuite::from(self.cipher_suite);
        let name = suite.as_str().filter(|_| self.cipher_suite != 0).unwrap_or(UNKNOWN);
        name.replacen("TLS13_", "TLS_", 1)
    }
}

impl From<TlsParameters> for TlsLabels {
    fn from(TlsParameters { version, cipher_suite }: TlsParameters) -> Self {
        Self { version: version.into(), cipher_suite: cipher_suite.map_or(0, u16::from) }
    }
}

/// A combination of labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeriesKey {
    /// Responses with this status.
    Responses {
        /// The labels of the request.
        labels: RequestLabels,
        /// Its tenant.
        tenant: TenantLabel,
        /// The status.
        status: u16,
    },
    /// Requests in progress.
    InProgress(RequestLabels),
    /// Requests over TLS.
    OverTls {
        /// Index of the listener.
        listener: u8,
        /// The route.
        route: Route,
        /// The tenant.
        tenant: TenantLabel,
        /// TLS.
        tls: TlsLabels,
    },
    /// Connections over TCP or a Unix socket.
    Connections {
        /// Index of the listener.
        listener: u8,
    },
}

impl SeriesKey {
    /// Returns the key of the connections of a listener.
    pub(super) fn of_connections(listener: usize) -> Self {
        Self::Connections { listener: listener_index(listener) }
    }

    /// Packs it into a word, which is never 0.
    pub(super) fn packed(self) -> u64 {
        let pack = |kind: u8, labels: [u8; 3], value: u16, tenant: TenantLabel| {
            let ([low, high], [tenant_low, tenant_high]) =
                (value.to_le_bytes(), tenant.0.to_le_bytes());
            let [first, second, third] = labels;
            u64::from_le_bytes([kind, first, second, third, low, high, tenant_low, tenant_high])
        };
        let none = TenantLabel::default();
        let of_request = |RequestLabels { listener, route, method }: RequestLabels| {
            [listener, byte(route.index()), method]
        };
        match self {
            Self::Responses { labels, tenant, status } => {
                pack(1, of_request(labels), status, tenant)
            }
            Self::InProgress(labels) => pack(2, of_request(labels), 0, none),
            Self::OverTls { listener, route, tenant, tls } => {
                let [_, version] = tls.version.to_be_bytes();
                pack(3, [listener, byte(route.index()), version], tls.cipher_suite, tenant)
            }
            Self::Connections { listener } => pack(4, [listener, 0, 0], 0, none),
        }
    }

    /// The inverse of [`packed`](Self::packed).
    pub(super) fn unpacked(word: u64) -> Option<Self> {
        let [kind, listener, route, method, low, high, tenant_low, tenant_high] =
            word.to_le_bytes();
        let route = *Route::ALL.get(usize::from(route))?;
        let value = u16::from_le_bytes([low, high]);
        let tenant = TenantLabel(u16::from_le_bytes([tenant_low, tenant_high]));
        let labels = RequestLabels { listener, route, method };
        Some(match kind {
            1 => Self::Responses { labels, tenant, status: value },
            2 => Self::InProgress(labels),
            3 => {
                // Every version of TLS starts with the same byte.
                let version = u16::from_be_bytes([3, method]);
                let tls = TlsLabels { version, cipher_suite: value };
                Self::OverTls { listener, route, tenant, tls }
            }
            4 => Self::Connections { listener },
            _ => return None,
        })
    }

    /// Returns the index of the listener.
    #[must_use]
    pub const fn listener(&self) -> u8 {
        match self {
            Self::Responses { labels, .. } | Self::InProgress(labels) => labels.listener,
            Self::OverTls { listener, .. } | Self::Connections { listener } => *listener,
        }
    }

    pub(super) const fn tenant(&self) -> TenantLabel {
        match self {
            Self::Responses { tenant, .. } | Self::OverTls { tenant, .. } => *tenant,
            Self::InProgress(_) | Self::Connections { .. } => TenantLabel(0),
        }
    }
}

fn listener_index(listener: usize) -> u8 {
    byte(listener)
}

fn byte(index: usize) -> u8 {
    u8::try_from(index).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_labels_are_unpacked() {
        let labels = RequestLabels { listener: 2, route: Route::Keys, method: 9 };
        let (listener, route, tenant) = (3, Route::None, TenantLabel(0x1234));
        let parameters = TlsParameters {
            version: ProtocolVersion::TLSv1_2,
            cipher_suite: Some(CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
        };
        let tls = TlsLabels::from(parameters);
        for key in [
            SeriesKey::Responses { labels, tenant, status: 503 },
            SeriesKey::InProgress(labels),
            SeriesKey::OverTls { listener, route, tenant, tls },
            SeriesKey::Connections { listener },
        ] {
            assert_ne!(key.packed(), 0);
            assert_eq!(SeriesKey::unpacked(key.packed()), Some(key));
        }
        assert_eq!(SeriesKey::unpacked(u64::MAX), None);
        assert_eq!(labels.method(), "EXTENSION_METHOD");
    }

    #[test]
    fn tls_has_the_names_of_its_registry() {
        let shown = |version, cipher_suite| {
            let tls = TlsLabels::from(TlsParameters { version, cipher_suite });
            format!("{} {}", tls.version(), tls.cipher_suite())
        };
        let suite = CipherSuite::TLS13_AES_128_GCM_SHA256;
        let shown_suite = shown(ProtocolVersion::TLSv1_3, Some(suite));
        assert_eq!(shown_suite, "1.3 TLS_AES_128_GCM_SHA256");
        let suite = CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256;
        let shown_suite = shown(ProtocolVersion::TLSv1_2, Some(suite));
        assert_eq!(shown_suite, "1.2 TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256");
        assert_eq!(shown(ProtocolVersion::TLSv1_3, None), "1.3 unknown");
    }
}
