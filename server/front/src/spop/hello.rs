//! The HELLO handshake, and the end of a connection.

use super::{
    error::{SpopError, SpopStatus},
    frame::{FrameIds, MAX_FRAME_BYTES, MIN_MAX_FRAME_BYTES, kind, put_frame},
    value::{PayloadReader, SpopValue, put_text},
};

/// The payload of HAPROXY-HELLO, as far as it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HelloRequest {
    /// The largest frame that both sides accept.
    pub max_frame: usize,
    /// Whether HAProxy sends frames without waiting for the ACK of the one before.
    pub is_pipelined: bool,
    /// Whether the connection is only a health check.
    pub is_health_check: bool,
}

/// The supported version, and its major part.
const VERSION: &[u8] = b"2.0";
const MAJOR_VERSION: &[u8] = b"2";
/// The supported capability: ACK frames in any order.
const PIPELINING: &[u8] = b"pipelining";

impl HelloRequest {
    /// Reads the payload.
    ///
    /// # Errors
    /// An item is missing or malformed, occurs twice, or has no supported value.
    pub fn read(payload: &[u8]) -> Result<Self, SpopError> {
        const TWICE: SpopError = SpopError::invalid("an item of HAPROXY-HELLO occurs twice");
        let mut reader = PayloadReader::new(payload);
        let [mut versions, mut max_frame, mut capabilities, mut health_check] = [None; 4];
        while !reader.is_empty() {
            let (name, value) = (reader.text()?, reader.value()?);
            let item = match name {
                b"supported-versions" => &mut versions,
                b"max-frame-size" => &mut max_frame,
                b"capabilities" => &mut capabilities,
                b"healthcheck" => &mut health_check,
                _ => continue,
            };
            if item.replace(value).is_some() {
                return Err(TWICE);
            }
        }
        check_version(versions)?;
        Ok(Self {
            max_frame: max_frame_of(max_frame)?,
            is_pipelined: has_pipelining(capabilities)?,
            is_health_check: health_check == Some(SpopValue::Flag(true)),
        })
    }

    /// Appends the AGENT-HELLO that answers it.
    pub fn answer(&self, out: &mut Vec<u8>) {
        let max_frame = u64::try_from(self.max_frame).unwrap_or(u64::MAX);
        let capabilities = if self.is_pipelined { PIPELINING } else { b"" };
        put_frame(out, kind::AGENT_HELLO, FrameIds::default(), |out| {
            put_item(out, "version", SpopValue::Text(VERSION));
            put_item(out, "max-frame-size", SpopValue::Integer(max_frame));
            put_item(out, "capabilities", SpopValue::Text(capabilities));
        });
    }
}

/// Appends the AGENT-DISCONNECT that closes a connection.
pub fn disconnect(out: &mut Vec<u8>, error: SpopError) {
    put_frame(out, kind::AGENT_DISCONNECT, FrameIds::default(), |out| {
        put_item(out, "status-code", SpopValue::Integer(error.status.number().into()));
        put_item(out, "message", SpopValue::Text(error.reason.as_bytes()));
    });
}

fn put_item(out: &mut Vec<u8>, name: &str, value: SpopValue<'_>) {
    put_text(out, name.as_bytes());
    value.put(out);
}

/// Checks that a version with the same major part is offered: it includes all minor ones before it.
fn check_version(versions: Option<SpopValue<'_>>) -> Result<(), SpopError> {
    const MISSING: SpopError = SpopError::new(SpopStatus::NoVersion, "no supported-versions");
    const UNSUPPORTED: SpopError =
        SpopError::new(SpopStatus::UnsupportedVersion, "only version 2.0 is supported");
    let Some(SpopValue::Text(versions)) = versions else { return Err(MISSING) };
    let is_ours =
        |version: &[u8]| version.split(|byte| *byte == b'.').next() == Some(MAJOR_VERSION);
    if elements(versions).any(is_ours) { Ok(()) } else { Err(UNSUPPORTED) }
}

fn max_frame_of(value: Option<SpopValue<'_>>) -> Result<usize, SpopError> {
    const MISSING: SpopError = SpopError::new(SpopStatus::NoMaxFrameSize, "no max-frame-size");
    const TOO_SMALL: SpopError =
        SpopError::new(SpopStatus::BadMaxFrameSize, "max-frame-size is less than 256");
    let Some(SpopValue::Integer(size)) = value else { return Err(MISSING) };
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if size < MIN_MAX_FRAME_BYTES { Err(TOO_SMALL) } else { Ok(size.min(MAX_FRAME_BYTES)) }
}

fn has_pipelining(capabilities: Option<SpopValue<'_>>) -> Result<bool, SpopError> {
    const MISSING: SpopError = SpopError::new(SpopStatus::NoCapabilities, "no capabilities");
    let Some(SpopValue::Text(capabilities)) = capabilities else { return Err(MISSING) };
    Ok(elements(capabilities).any(|capability| capability == PIPELINING))
}

/// Returns the elements of a list that is separated by commas and spaces.
fn elements(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Items<'i> = &'i [(&'i str, SpopValue<'i>)];

    fn hello(items: Items<'_>) -> Result<HelloRequest, SpopStatus> {
        let mut payload = Vec::new();
        items.iter().for_each(|(name, value)| put_item(&mut payload, name, *value));
        HelloRequest::read(&payload).map_err(|error| error.status)
    }

    const VERSIONS: (&str, SpopValue<'_>) = ("supported-versions", SpopValue::Text(b"2.0"));
    const MAX: (&str, SpopValue<'_>) = ("max-frame-size", SpopValue::Integer(16_380));
    const ABLE: (&str, SpopValue<'_>) =
        ("capabilities", SpopValue::Text(b"pipelining, async, fragmentation"));

    #[test]
    fn hello_negotiates_the_frame_size_and_pipelining() {
        let usual = HelloRequest { max_frame: 16_380, is_pipelined: true, is_health_check: false };
        assert_eq!(hello(&[VERSIONS, MAX, ABLE]), Ok(usual));
        let other = [
            ("engine-id", SpopValue::Text(b"x")),
            ("capabilities", SpopValue::Text(b"async")),
            ("max-frame-size", SpopValue::Integer(u64::MAX)),
            ("supported-versions", SpopValue::Text(b"3.1 , 2.5, 1.0")),
            ("healthcheck", SpopValue::Flag(true)),
        ];
        let expected =
            HelloRequest { max_frame: MAX_FRAME_BYTES, is_pipelined: false, is_health_check: true };
        assert_eq!(hello(&other), Ok(expected));
        assert_eq!(
            hello(&[VERSIONS, MAX, ABLE, ("healthcheck", SpopValue::Flag(false))]),
            Ok(usual)
        );
    }

    #[test]
    fn hello_lacking_an_item_is_refused_with_its_status() {
        let text = |text| SpopValue::Text(text);
        for (items, status) in [
            (&[MAX, ABLE][..], SpopStatus::NoVersion),
            (&[VERSIONS, ABLE], SpopStatus::NoMaxFrameSize),
            (&[VERSIONS, MAX], SpopStatus::NoCapabilities),
            (&[("supported-versions", SpopValue::Integer(2)), MAX, ABLE], SpopStatus::NoVersion),
            (&[VERSIONS, ("max-frame-size", text(b"256")), ABLE], SpopStatus::NoMaxFrameSize),
            (&[VERSIONS, MAX, ("capabilities", SpopValue::Null)], SpopStatus::NoCapabilities),
            (&[VERSIONS, MAX, ABLE, MAX], SpopStatus::InvalidFrame),
        ] {
            assert_eq!(hello(items), Err(status));
        }
        for versions in [&b"1.0"[..], b"", b"20.0", b"3.0,1.0", b"x2.0"] {
            let refused = hello(&[("supported-versions", text(versions)), MAX, ABLE]);
            assert_eq!(refused, Err(SpopStatus::UnsupportedVersion), "{versions:?}");
        }
        for size in [0, 255] {
            let refused = hello(&[VERSIONS, ("max-frame-size", SpopValue::Integer(size)), ABLE]);
            assert_eq!(refused, Err(SpopStatus::BadMaxFrameSize));
        }
    }
}
