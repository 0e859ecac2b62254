//! The options for fetching keys.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use countersign_engine::rotation::Timing;
use rustls::pki_types::CertificateDer;

use super::{KeyLocation, KeySource, RefreshedKeys, read_file};
use crate::{
    base::{roots, uri::is_protected},
    config::reader::SectionReader,
};

pub(super) fn refreshed_keys(reader: &mut SectionReader<'_>, location: KeyLocation) -> KeySource {
    let validate_cert = reader.flag("validate_cert");
    if !validate_cert && location.uri().is_some() {
        let text = format!(
            "validate_cert is off in {}: anyone on the network path can replace the keys",
            reader.section
        );
        let help = "remove the line, and set ca_file for a private certificate authority";
        reader.warn("validate_cert", text, help);
    }
    KeySource::Refreshed(Arc::new(RefreshedKeys {
        timing: read_timing(reader, &location),
        token_file: read_token_file(reader, &location, validate_cert),
        location,
        validate_cert,
        authorities: read_authorities(reader),
        timeout: reader.seconds("jwks_request_timeout"),
    }))
}

/// Reads `jwks_token_file`. Its content is read at every fetch. The token must not be readable on
/// the way to the provider, nor reach another server.
fn read_token_file(
    reader: &mut SectionReader<'_>,
    location: &KeyLocation,
    validate_cert: bool,
) -> Option<PathBuf> {
    const OPTION: &str = "jwks_token_file";
    let file = PathBuf::from(reader.given(OPTION)?);
    let uri = location.uri()?;
    let (option, section) = (location.option(), reader.section);
    if !is_protected(uri) {
        let text = format!("{OPTION} in {section} would be sent in plain text: {option} is http");
        reader.error(OPTION, text, &format!("write an https:// URI as {option}"));
    } else if !validate_cert && uri.starts_with("https://") {
        let text =
            format!("{OPTION} in {section} could be sent to any server: validate_cert is off");
        let help = "remove validate_cert, and set ca_file for a private certificate authority";
        reader.error(OPTION, text, help);
    }
    reader.warn_if_readable_by_all(OPTION, &file);
    Some(file)
}

fn read_timing(reader: &mut SectionReader<'_>, location: &KeyLocation) -> Timing {
    let stale = reader.seconds("jwks_stale");
    let interval = reader.seconds("jwks_refresh_interval");
    let cool_down = reader.seconds("jwks_cool_down");
    if let KeyLocation::File { .. } = location {
        // Checking a file is cheap, so the intervals are fixed.
        return Timing {
            interval: Duration::from_secs(1),
            cool_down: Duration::from_millis(500),
            stale,
        };
    }
    if interval < cool_down * 2 {
        let (interval, cool_down) = (interval.as_secs(), cool_down.as_secs());
        let text = format!(
            "jwks_refresh_interval ({interval} s) in {} is less than twice jwks_cool_down \
             ({cool_down} s)",
            reader.section
        );
        reader.error(
            "jwks_refresh_interval",
            text,
            "raise jwks_refresh_interval, or set jwks_cool_down to at most half of it",
        );
    }
    Timing { interval, cool_down, stale }
}

/// Reads `ca_file`: certificates in PEM.
fn read_authorities(reader: &mut SectionReader<'_>) -> Vec<CertificateDer<'static>> {
    let Some(path) = reader.text("ca_file") else { return Vec::new() };
    let Some(pem) = read_file(reader, "ca_file", Path::new(path)) else { return Vec::new() };
    roots::certificates(path, &pem).unwrap_or_else(|text| {
        reader.error("ca_file", text, "name a file with certificates in PEM");
        Vec::new()
    })
}
