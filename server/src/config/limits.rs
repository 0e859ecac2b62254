//! `[limits]`, and who is believed about where a request comes from.

use std::collections::BTreeMap;

use http::{HeaderName, header};

use super::{problem::Problem, reader::Reader, setting::Section};
use crate::{
    admission::Share,
    listen::peer::{Network, Proxies},
};

/// How much of a core's time bad signatures may take; `None` for as much as they
/// will.
///
/// # Defaults
/// Half of a core for one issuer leaves room for another that is flooded too, and
/// three quarters of it in all leave room for what needs no signature. Twenty sources
/// that do all they may fill a core.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// All of them together.
    pub core: Option<Share>,
    /// Those in the name of one issuer.
    pub issuer: Option<Share>,
    /// Those from one source.
    pub source: Option<Share>,
    /// How many sources are told apart, for each core.
    pub sources: usize,
}

impl Limits {
    pub(super) fn read(sections: &BTreeMap<String, Section>, problems: &mut Vec<Problem>) -> Self {
        let mut reader = Reader::new(sections, "limits", problems);
        Self {
            core: read_share(&mut reader, "bad_signatures_per_core", 75),
            issuer: read_share(&mut reader, "bad_signatures_per_issuer", 50),
            source: read_share(&mut reader, "bad_signatures_per_source", 5),
            sources: reader.number("sources", 8..=1 << 20).unwrap_or(4096),
        }
    }
}

fn read_share(reader: &mut Reader<'_>, option: &str, default: u8) -> Option<Share> {
    let Some(text) = reader.text(option) else { return Share::new(default) };
    if text == "off" {
        return None;
    }
    let share = text.parse().ok().and_then(Share::new);
    if share.is_none() {
        let message = format!("{option} in limits must be a number from 1 to 100 or off, not {text:?}");
        reader.problem(option, message, "write how many percent of a core's time they may take, or off for no limit");
    }
    share
}

/// `trusted_proxies` and `client_address_header` of `[listen]`.
pub(super) fn read_proxies(listen: &mut Reader<'_>) -> Proxies {
    let texts = listen.list("trusted_proxies").unwrap_or_default();
    let networks = texts.into_iter().filter_map(|text| match Network::parse(text) {
        Ok(network) => Some(network),
        Err(help) => {
            let message = format!("{text:?} of trusted_proxies in listen is no address or network");
            listen.problem("trusted_proxies", message, &help);
            None
        }
    });
    let networks = networks.collect();
    Proxies::new(networks, read_header(listen))
}

fn read_header(listen: &mut Reader<'_>) -> HeaderName {
    const OPTION: &str = "client_address_header";
    const DEFAULT: HeaderName = HeaderName::from_static("x-forwarded-for");
    const HELP: &str = "name the one that the proxies set, such as X-Forwarded-For or X-Real-IP";
    let Some(text) = listen.text(OPTION) else { return DEFAULT };
    match HeaderName::from_bytes(text.as_bytes()) {
        // Its elements are not addresses but lists of parameters (RFC 7239).
        Ok(name) if name == header::FORWARDED => {
            listen.problem(OPTION, format!("{OPTION} in listen cannot be Forwarded: it is not read"), HELP);
            DEFAULT
        }
        Ok(name) => name,
        Err(_) => {
            listen.problem(OPTION, format!("{OPTION} in listen: {text:?} is no header name"), HELP);
            DEFAULT
        }
    }
}
