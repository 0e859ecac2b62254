//! Bodies of a provider's responses, bounded before and after their content coding is decoded.

use std::io::Read;

use flate2::read::{MultiGzDecoder, ZlibDecoder};
use http::{HeaderMap, Response, header};
use ureq::Body;

use super::{FetchError, transport_error};
use crate::base::redacted::quoted;

/// Value of `Accept-Encoding`. Without the header a server may choose any coding (RFC 9110 section
/// 12.5.3).
pub(crate) const ACCEPTED_CODINGS: &str = "gzip, identity";

/// Content coding of a response (RFC 9110 section 8.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ContentCoding {
    Identity,
    Gzip,
    /// The zlib format, in spite of its name.
    Deflate,
}

/// Returns the decoded body of a response, if it is shorter than `limit` in bytes.
pub(crate) fn read(response: Response<Body>, limit: u64) -> Result<Vec<u8>, FetchError> {
    let coding = coding(response.headers())?;
    let body = response.into_body().with_config().limit(limit).read_to_vec();
    let bytes = body.map_err(|error| transport_error(&error))?;
    match coding {
        ContentCoding::Identity => Ok(bytes),
        ContentCoding::Gzip => inflate(MultiGzDecoder::new(&bytes[..]), "gzip", limit),
        ContentCoding::Deflate => inflate(ZlibDecoder::new(&bytes[..]), "deflate", limit),
    }
}

fn coding(headers: &HeaderMap) -> Result<ContentCoding, FetchError> {
    let lines = headers.get_all(header::CONTENT_ENCODING).iter();
    let text = lines.map(|line| line.to_str().unwrap_or("?")).collect::<Vec<_>>().join(",");
    let text = text.to_ascii_lowercase();
    let mut codings = text.split(',').map(str::trim).filter(|one| !["", "identity"].contains(one));
    match (codings.next(), codings.next()) {
        (None, _) => Ok(ContentCoding::Identity),
        (Some("gzip" | "x-gzip"), None) => Ok(ContentCoding::Gzip),
        (Some("deflate"), None) => Ok(ContentCoding::Deflate),
        _ => Err(FetchError::new(
            "unusable",
            format_args!(
                "the provider answered in the content coding {}, although only {ACCEPTED_CODINGS} \
                 are accepted",
                quoted(&text)
            ),
        )),
    }
}

fn inflate(decoder: impl Read, coding: &str, limit: u64) -> Result<Vec<u8>, FetchError> {
    let mut bytes = Vec::new();
    decoder.take(limit).read_to_end(&mut bytes).map_err(|_| {
        FetchError::new("unusable", format_args!("cannot decode the content coding {coding}"))
    })?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length < limit) {
        return Ok(bytes);
    }
    let text = format!("the answer has {limit} bytes or more once its {coding} is decoded");
    Err(FetchError::new("too_long", text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coding_is_one_that_can_be_decoded() {
        let of = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::CONTENT_ENCODING, http::HeaderValue::from_static(line));
            }
            coding(&headers).map_err(|error| error.text)
        };
        for lines in [&[][..], &[""], &["identity"], &["Identity, ", "identity"]] {
            assert_eq!(of(lines), Ok(ContentCoding::Identity), "{lines:?}");
        }
        for lines in [&["gzip"][..], &["X-GZIP"], &["identity", "GZip"]] {
            assert_eq!(of(lines), Ok(ContentCoding::Gzip), "{lines:?}");
        }
        assert_eq!(of(&["deflate"]), Ok(ContentCoding::Deflate));
        for (lines, named) in [
            (&["br"][..], "\"br\""),
            (&["gzip, gzip"], "\"gzip, gzip\""),
            (&["gzip", "zstd"], "\"gzip,zstd\""),
        ] {
            assert!(of(lines).unwrap_err().contains(named), "{lines:?}");
        }
    }
}
