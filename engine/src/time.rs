//! A moment, always handed in: the engine has no clock.

/// Whole seconds since 1970-01-01T00:00:00Z, ignoring leap seconds: the unit of
/// a NumericDate (RFC 7519 section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(pub u64);

impl UnixTime {
    /// This moment, `seconds` later; the far end of time saturates.
    #[must_use]
    pub const fn plus(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }
}
