//! The lines of the feed, and the requests of its clients.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::configuration::SectionDigests;
use crate::{
    base::redacted::json_error, keys::shared::SharedKeys, revocation::record::RevocationRecord,
};

/// The version of the protocol. Both sides are updated together; a client refuses another one.
pub const FEED_VERSION: u32 = 3;

/// Longest line, in bytes. A key set is by far the longest: it has at most
/// [`MAX_KEY_SET_BYTES`](countersign_engine::limits::MAX_KEY_SET_BYTES).
pub const MAX_LINE_BYTES: usize = 2 * countersign_engine::limits::MAX_KEY_SET_BYTES;

/// A request of a client: to fetch the keys of a section again, because a token has an unknown
/// `kid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedRequest {
    /// The number of the section in [`FeedLine::Keys`].
    pub number: u32,
    /// The number of fetches that the client knows. If another one has begun since, the client will
    /// read its result, and the request has no effect.
    pub fetches: u64,
}

impl FeedRequest {
    /// Its size.
    pub const BYTES: usize = 12;

    /// Returns it as it is written: both numbers in network byte order.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..4].copy_from_slice(&self.number.to_be_bytes());
        bytes[4..].copy_from_slice(&self.fetches.to_be_bytes());
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) has written. Any bytes are a request.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let [a, b, c, d, fetches @ ..] = bytes;
        let number = u32::from_be_bytes([a, b, c, d]);
        Self { number, fetches: u64::from_be_bytes(fetches) }
    }
}

/// A line of the feed. A connection has [`Hello`](Self::Hello),
/// [`Configuration`](Self::Configuration), the keys and revocations of the snapshot,
/// [`Complete`](Self::Complete), and then the changes in their order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FeedLine {
    /// The first line.
    Hello {
        /// [`FEED_VERSION`].
        version: u32,
        /// Random id of the server's run.
        run: String,
        /// The generation of the snapshot.
        generation: u64,
    },
    /// The configuration of the server, by which a client finds that its own differs.
    Configuration {
        /// The generation of the change; missing in the snapshot.
        #[serde(skip_serializing_if = "Option::is_none")]
        generation: Option<u64>,
        /// Its sections that decide about requests.
        sections: SectionDigests,
    },
    /// The keys of a section.
    Keys {
        /// The generation of the change; missing in the snapshot.
        #[serde(skip_serializing_if = "Option::is_none")]
        generation: Option<u64>,
        /// The number of the section, for a [`FeedRequest`]. It stays the same during a run of the
        /// server.
        number: u32,
        /// The keys.
        keys: Box<SharedKeys>,
    },
    /// The server does not have a section any more.
    Removed {
        /// The generation of the change.
        generation: u64,
        /// The name of the section.
        section: String,
    },
    /// A revocation.
    Revocation {
        /// The generation of the change; missing in the snapshot.
        #[serde(skip_serializing_if = "Option::is_none")]
        generation: Option<u64>,
        /// The revocation.
        revocation: RevocationRecord,
    },
    /// The server has dropped the revocations that had expired at a time.
    Expired {
        /// The generation of the change.
        generation: u64,
        /// The time, in seconds since 1970.
        at: u64,
    },
    /// The end of the snapshot.
    Complete(FeedState),
    /// Written every [`HEARTBEAT_INTERVAL`](super::publisher::HEARTBEAT_INTERVAL), and when
    /// [`FeedState::is_available`] changes.
    Alive(FeedState),
}

/// The state of the server when a line was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedState {
    /// The generation of the last change before this line.
    pub generation: u64,
    /// Milliseconds of [`since_boot`](crate::base::clock::since_boot).
    pub at: u64,
    /// Whether the server knows all stored revocations.
    #[serde(rename = "available")]
    pub is_available: bool,
    /// Number of its revocations.
    pub revocations: usize,
}

/// Error of a line that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedLineError(String);

impl fmt::Display for FeedLineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FeedLine {
    /// Parses a line, without its end.
    ///
    /// # Errors
    /// It is not a line of this version.
    pub fn parse(line: &[u8]) -> Result<Self, FeedLineError> {
        serde_json::from_slice(line).map_err(|error| FeedLineError(json_error(&error)))
    }

    /// Appends the line with its end.
    ///
    /// # Errors
    /// Never, for lines of this program.
    pub fn write(&self, text: &mut String) -> Result<(), FeedLineError> {
        let line =
            serde_json::to_string(self).map_err(|error| FeedLineError(json_error(&error)))?;
        text.push_str(&line);
        text.push('\n');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: FeedState = FeedState { generation: 7, at: 9, is_available: true, revocations: 2 };

    /// One line of each kind.
    fn lines() -> Vec<String> {
        let keys = r#"{"keys":[{"kty":"OKP","kid":"\u0000\"é","n":1e400}]}"#;
        let keys = format!(
            "{{\"keys\":{{\"generation\":8,\"number\":3,\"keys\":{{\"section\":\"auth_jwt_a\",\
             \"source\":\"s\",\"fetches\":1,\"is_fetching\":true,\"is_failing\":false,\
             \"confirmed\":-5,\"success\":[1,2],\"next_fetch\":null,\"refetch_from\":-7,\
             \"is_emptied\":null,\"keys\":{keys},\"skipped\":[{{\"index\":1,\"kid\":\"k\",\
             \"reason\":\"r\"}}]}}}}}}"
        );
        vec![
            r#"{"hello":{"version":3,"run":"r","generation":7}}"#.into(),
            keys,
            r#"{"removed":{"generation":9,"section":"auth_jwt_a"}}"#.into(),
            r#"{"revocation":{"revocation":{"issuer":"i","jti":"1"}}}"#.into(),
            r#"{"revocation":{"generation":10,"revocation":{"issuer":"i","kid":"k"}}}"#.into(),
            r#"{"complete":{"generation":7,"at":9,"available":true,"revocations":2}}"#.into(),
            r#"{"expired":{"generation":11,"at":9}}"#.into(),
            r#"{"alive":{"generation":7,"at":9,"available":false,"revocations":2}}"#.into(),
            r#"{"configuration":{"sections":[]}}"#.into(),
            r#"{"configuration":{"generation":12,"sections":[{"section":"a","digest":"0"}]}}"#
                .into(),
        ]
    }

    #[test]
    fn feed_lines_round_trip() {
        for line in lines() {
            let mut written = String::new();
            FeedLine::parse(line.as_bytes()).unwrap().write(&mut written).unwrap();
            assert_eq!(written, format!("{line}\n"));
        }
        assert_eq!(FeedLine::parse(lines()[5].as_bytes()), Ok(FeedLine::Complete(STATE)));
    }

    #[test]
    fn feed_request_is_two_numbers() {
        let request = FeedRequest { number: 0x0102_0304, fetches: 0x0506_0708_090a_0b0c };
        assert_eq!(request.to_bytes(), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        assert_eq!(FeedRequest::from_bytes(request.to_bytes()), request);
    }

    #[test]
    fn other_feed_lines_are_refused() {
        for line in [
            "",
            "{}",
            "null",
            r#"{"hello":{}}"#,
            r#"{"hello":{"version":1,"run":"r","generation":7,"more":1}}"#,
            r#"{"hello":{"version":1,"version":1,"run":"r","generation":7}}"#,
            r#"{"hello":{"version":-1,"run":"r","generation":7}}"#,
            r#"{"other":{"generation":7}}"#,
            r#"{"alive":{"generation":7,"at":9,"available":1,"revocations":2}}"#,
            r#"{"alive":{"generation":7,"at":9,"available":true,"revocations":2}} {}"#,
            r#"{"complete":{"generation":1e3,"at":9,"available":true,"revocations":2}}"#,
            r#"{"revocation":{"revocation":{"issuer":"i","jtii":"1"}}}"#,
            r#"{"removed":{"generation":7,"section":"a"},"alive":null}"#,
        ] {
            assert!(FeedLine::parse(line.as_bytes()).is_err(), "{line}");
        }
    }

    /// Every prefix of a line, and every line with one byte replaced, is refused or is a line that
    /// is written as it was read.
    #[test]
    fn damaged_feed_lines_are_refused_or_lines() {
        for line in lines() {
            let line = line.as_bytes();
            for end in 0..line.len() {
                assert!(FeedLine::parse(&line[..end]).is_err());
            }
            for position in 0..line.len() {
                for byte in [b'"', b'{', b'}', b'[', b'\\', b',', b'0', b'-', 0, 0xff] {
                    let mut damaged = line.to_vec();
                    damaged[position] = byte;
                    let Ok(read) = FeedLine::parse(&damaged) else { continue };
                    let mut written = String::new();
                    read.write(&mut written).unwrap();
                    assert_eq!(FeedLine::parse(written.trim_end().as_bytes()), Ok(read));
                }
            }
        }
    }
}
