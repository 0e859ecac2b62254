//! `[quic]`: what nodes that serve HTTP/3 at one address have in common, and when clients
//! have to prove where they are.

use std::{collections::BTreeMap, io::Read as _, path::Path};

use aws_lc_rs::digest;

use super::{problem::Problem, reader::SectionReader, setting::Section};
use crate::{file::open_regular, listen::quic::QuicKeys};

/// What all listeners that speak HTTP/3 have in common.
#[derive(Clone, Debug)]
pub struct QuicSettings {
    /// The keys that nodes share; `None` for those that this process makes up.
    pub keys: Option<QuicKeys>,
    /// The digest of what they were made from.
    secret: Option<[u8; digest::SHA256_OUTPUT_LEN]>,
    /// How many clients may be shaking hands with a thread whose addresses are not proven,
    /// before others have to prove theirs first.
    pub retry_above: usize,
}

impl PartialEq for QuicSettings {
    fn eq(&self, other: &Self) -> bool {
        (self.secret, self.retry_above) == (other.secret, other.retry_above)
    }
}

/// A proof costs a round trip, so it is asked for when there is reason to. Handshakes take
/// milliseconds: so many at once are no ordinary load.
const RETRY_ABOVE: usize = 256;
/// As much as the keys are long that are made from it.
const LEAST_SECRET: usize = 32;
const MOST_SECRET: usize = 4096;

impl QuicSettings {
    pub(super) fn read(sections: &BTreeMap<String, Section>, problems: &mut Vec<Problem>) -> Self {
        let mut reader = SectionReader::new(sections, "quic", problems);
        let retry_above = reader.number("retry_above", 0..=1 << 20).unwrap_or(RETRY_ABOVE);
        let secret = reader.text("key_file").and_then(|file| match read_secret(Path::new(file)) {
            Ok(secret) => Some(secret),
            Err(fault) => {
                let help = format!(
                    "make one by openssl rand -base64 48 > {file}, the same for every node"
                );
                reader.problem("key_file", format!("{file}: {fault}"), &help);
                None
            }
        });
        let secret = secret.as_deref();
        let mark = secret
            .and_then(|secret| digest::digest(&digest::SHA256, secret).as_ref().try_into().ok());
        Self { keys: secret.map(QuicKeys::from_secret), secret: mark, retry_above }
    }
}

fn read_secret(file: &Path) -> Result<Vec<u8>, String> {
    let mut secret = Vec::new();
    let opened = open_regular(file).map_err(|error| error.to_string())?;
    opened
        .take(MOST_SECRET as u64 + 1)
        .read_to_end(&mut secret)
        .map_err(|error| error.to_string())?;
    let length = secret.trim_ascii().len();
    match length {
        _ if secret.len() > MOST_SECRET => Err(format!("it has more than {MOST_SECRET} bytes")),
        0..LEAST_SECRET => Err(format!("it has {length} bytes, and {LEAST_SECRET} are the least")),
        _ => Ok(secret.trim_ascii().into()),
    }
}
