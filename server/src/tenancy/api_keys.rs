//! API keys of machines: `api_key` and `api_key_file` of `[multi_tenancy]`.
//!
//! Only hashes of the keys are kept. A presented key is hashed once and compared with every stored
//! hash, so the time does not reveal which key matched, or how much of it.

use std::{fmt, hint::black_box, net::IpAddr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{base::secret_hash, client::trusted_proxies::Network, keys::secret_id::secret_id};

const HASH_BYTES: usize = 32;
const HASH_WORDS: usize = HASH_BYTES / 8;

/// The keys that are valid at the same time. Its [`Debug`](fmt::Debug) output has their names only.
#[derive(Default)]
pub struct ApiKeys {
    keys: Vec<StoredKey>,
    hashes: Vec<[u64; HASH_WORDS]>,
}

/// A stored key, whose hash is kept apart.
#[derive(Debug)]
struct StoredKey {
    name: String,
    /// Its [`secret_id`], by which nodes are compared.
    id: Option<String>,
    /// Networks of the clients that may use it; empty for any.
    sources: Vec<Network>,
}

/// What can be shown of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedKey<'k> {
    /// Its name.
    pub name: &'k str,
    /// Its [`secret_id`], if it was generated.
    pub id: Option<&'k str>,
    /// Networks of the clients that may use it; empty for any.
    pub sources: Vec<String>,
}

/// A key as it is configured.
pub struct ConfiguredKey {
    /// Its name, for logs.
    pub name: String,
    /// The key itself.
    pub key: ReadKey,
    /// Networks of the clients that may use it; empty for any.
    pub sources: Vec<Network>,
}

impl ApiKeys {
    /// Stores keys.
    #[must_use]
    pub fn new(configured: Vec<ConfiguredKey>) -> Self {
        let hashes = configured.iter().map(|one| words(&one.key.hash)).collect();
        let keys = configured
            .into_iter()
            .map(|ConfiguredKey { name, key, sources }| StoredKey { name, id: key.id, sources })
            .collect();
        Self { keys, hashes }
    }

    /// Whether no key is configured, so that none is ever accepted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Returns the names of two keys that are the same: only the networks of the first count.
    #[must_use]
    pub fn same_keys(&self) -> Option<[&str; 2]> {
        self.hashes.iter().enumerate().find_map(|(index, hash)| {
            let first = self.hashes.iter().position(|other| other == hash)?;
            let names = [first, index].map(|index| self.keys.get(index).map(|key| &*key.name));
            let [Some(first), Some(second)] = names else { return None };
            (first != second).then_some([first, second])
        })
    }

    /// Returns the names of the keys, with the id of each that was generated.
    pub fn names(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.keys.iter().map(|key| (&*key.name, key.id.as_deref()))
    }

    /// Returns the keys by name, with the networks of their clients.
    pub fn list(&self) -> impl Iterator<Item = ListedKey<'_>> {
        self.keys.iter().map(|key| ListedKey {
            name: &key.name,
            id: key.id.as_deref(),
            sources: key.sources.iter().map(Network::to_string).collect(),
        })
    }

    /// Returns the name of a key that this client may use. Takes the same time for every key and
    /// for none.
    #[must_use]
    pub fn find(&self, presented: &[u8], client: impl FnOnce() -> IpAddr) -> Option<&str> {
        let hash = words(&secret_hash::hash(presented));
        let key = self.keys.get(self.position(&hash)?)?;
        let is_allowed = key.sources.is_empty() || {
            let client = client().to_canonical();
            key.sources.iter().any(|network| network.contains(client))
        };
        if !is_allowed {
            tracing::debug!(key = key.name, "API key used from an address that it is not for");
        }
        is_allowed.then_some(&*key.name)
    }

    /// Returns the position of a hash, after a comparison with all of them.
    fn position(&self, hash: &[u64; HASH_WORDS]) -> Option<usize> {
        let (mut found, mut position) = (0, 0);
        for (index, stored) in self.hashes.iter().enumerate() {
            let [first, second, third, fourth] = *stored;
            let difference =
                (first ^ hash[0]) | (second ^ hash[1]) | (third ^ hash[2]) | (fourth ^ hash[3]);
            // All ones if there is no difference, and otherwise zero.
            let mask = black_box(usize::from(difference == 0).wrapping_neg());
            // The first of equal keys counts.
            position |= mask & !found & index;
            found |= mask;
        }
        (found != 0).then_some(position)
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names().map(|(name, _)| name)).finish()
    }
}

fn words(hash: &[u8; HASH_BYTES]) -> [u64; HASH_WORDS] {
    let mut words = [0; HASH_WORDS];
    let (chunks, _) = hash.as_chunks::<8>();
    words.iter_mut().zip(chunks).for_each(|(word, bytes)| *word = u64::from_ne_bytes(*bytes));
    words
}

/// The reasons why a text is not a list of keys. The texts contain no key.
#[derive(Debug, PartialEq, Eq)]
pub struct ApiKeyError {
    /// The number of the line in a file, from 1; 0 for a key alone.
    pub line: usize,
    /// The reason.
    pub text: String,
}

/// A weakness of a key, which is named in a warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyWeakness {
    /// A word that stands for no key in other systems.
    Word,
    /// Too short to resist guessing.
    Short,
}

impl KeyWeakness {
    /// Returns the weakness of a key, if it has one.
    #[must_use]
    pub fn of(key: &str) -> Option<Self> {
        const MIN_BYTES: usize = 32;
        const WORDS: &[&str] = &[
            "changeme",
            "default",
            "disabled",
            "enabled",
            "false",
            "key",
            "no",
            "none",
            "null",
            "off",
            "on",
            "password",
            "secret",
            "test",
            "true",
            "undefined",
            "yes",
        ];
        if WORDS.iter().any(|word| key.eq_ignore_ascii_case(word)) {
            Some(Self::Word)
        } else {
            (key.len() < MIN_BYTES).then_some(Self::Short)
        }
    }
}

impl fmt::Display for KeyWeakness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Word => "is a common word, which may have been meant to switch API keys off",
            Self::Short => "has fewer than 32 bytes, so it can be guessed",
        })
    }
}

/// A key as it was read: nothing that would allow to present it.
pub struct ReadKey {
    /// SHA-256 of the key.
    hash: [u8; HASH_BYTES],
    /// The [`secret_id`] of a key that was generated.
    id: Option<String>,
    /// The weakness of the key.
    pub weakness: Option<KeyWeakness>,
}

/// Reads a key, or its hash.
///
/// # Errors
/// The hash is malformed.
pub fn read_key(text: &str) -> Result<ReadKey, String> {
    match secret_hash::parse(text) {
        Some(Ok(hash)) => Ok(ReadKey { hash, id: None, weakness: None }),
        Some(Err(_)) => Err("a hashed key is sha256: and 64 hexadecimal digits".into()),
        None => {
            let random = URL_SAFE_NO_PAD.decode(text).ok();
            let id = random.and_then(|secret| secret_id(&secret));
            let hash = secret_hash::hash(text.as_bytes());
            Ok(ReadKey { hash, id, weakness: KeyWeakness::of(text) })
        }
    }
}

/// Reads a file of keys: lines of `name = key`, optionally followed by ` from ` and a list of
/// networks. A key may be hashed. Empty lines and those that start with `#` or `[` are ignored.
///
/// # Errors
/// The first line that is malformed.
pub fn read_file(text: &str) -> Result<Vec<ConfiguredKey>, ApiKeyError> {
    let mut keys: Vec<ConfiguredKey> = Vec::new();
    for (index, line) in text.lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with(['#', '[']) {
            continue;
        }
        let error = |text: String| ApiKeyError { line: index + 1, text };
        let key = read_line(line).map_err(error)?;
        if keys.iter().any(|other| other.name == key.name) {
            return Err(error(format!("the name {} is given twice", key.name)));
        }
        keys.push(key);
    }
    Ok(keys)
}

fn read_line(line: &str) -> Result<ConfiguredKey, String> {
    const FORM: &str = "write name = key, or name = key from 10.0.0.0/8, 192.0.2.1";
    let (name, rest) = line.split_once('=').ok_or(FORM)?;
    let (name, rest) = (name.trim(), rest.trim());
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(is_name) {
        return Err("a name has 1 to 64 letters, digits, '-', '_' and '.'".into());
    }
    let (key, networks) = match rest.split_once(" from ") {
        Some((key, networks)) => (key.trim(), networks.split(',').map(str::trim).collect()),
        None => (rest, Vec::new()),
    };
    if key.is_empty() || key.contains(char::is_whitespace) {
        return Err(FORM.into());
    }
    let key = read_key(key)?;
    let sources = networks.into_iter().map(Network::parse).collect::<Result<_, _>>()?;
    Ok(ConfiguredKey { name: name.into(), key, sources })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::base::secret_hash::hash_text;

    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn keys(text: &str) -> ApiKeys {
        ApiKeys::new(read_file(text).unwrap())
    }

    #[test]
    fn every_configured_key_is_found() {
        let text: String =
            (0..100).map(|number| format!("k{number} = secret-{number}\n")).collect();
        let keys = keys(&text);
        for number in 0..100 {
            let found = keys.find(format!("secret-{number}").as_bytes(), || CLIENT);
            assert_eq!(found, Some(&*format!("k{number}")));
        }
        for wrong in ["", "secret-100", "secret-", "Bearer secret-1", "secret-1 ", "SECRET-1", "k1"]
        {
            assert_eq!(keys.find(wrong.as_bytes(), || CLIENT), None, "{wrong}");
        }
        let hash = hash_text("secret-1");
        assert_eq!(keys.find(hash.as_bytes(), || CLIENT), None, "a hash is not a key");
        assert!(!format!("{keys:?}").contains("secret"));
    }

    #[test]
    fn first_of_equal_keys_counts() {
        let text = "z = other\na = one from 10.0.0.0/8\nb = one from 192.0.2.1\nc = third\n";
        let keys = keys(text);
        assert_eq!(keys.find(b"one", || IpAddr::from([10, 0, 0, 1])), Some("a"));
        assert_eq!(keys.find(b"one", || CLIENT), None, "the networks of another key do not count");
        assert_eq!(keys.same_keys(), Some(["a", "b"]));
    }

    #[test]
    fn no_key_matches_without_configured_keys() {
        for keys in [ApiKeys::default(), ApiKeys::new(Vec::new())] {
            assert!(keys.is_empty());
            assert_eq!(keys.find(b"", || CLIENT), None);
            assert_eq!(keys.find(b"x", || CLIENT), None);
        }
    }

    #[test]
    fn key_is_bound_to_the_networks_of_its_clients() {
        let text = format!(
            "# of the gateway\n[api_keys]\n\na = one from 10.0.0.0/8, 192.0.2.1\n\
             b={}from 10.0.0.0/8\n",
            hash_text("two") + " "
        );
        let keys = keys(&text);
        let from = |key: &[u8], client: [u8; 4]| keys.find(key, || IpAddr::from(client));
        assert_eq!(from(b"one", [10, 1, 2, 3]), Some("a"));
        assert_eq!(from(b"one", [192, 0, 2, 1]), Some("a"));
        assert_eq!(from(b"one", [192, 0, 2, 2]), None);
        assert_eq!(from(b"two", [10, 1, 2, 3]), Some("b"));
        assert_eq!(from(b"two", [192, 0, 2, 1]), None);
    }

    #[test]
    fn malformed_lines_are_reported_without_the_key() {
        for (line, reason) in [
            ("s3cret", "write name = key"),
            ("a = ", "write name = key"),
            ("a = s3cret s3cret", "write name = key"),
            ("s3 cret = x", "a name has"),
            (" = s3cret", "a name has"),
            ("a = sha256:s3cret", "sha256: and 64"),
            ("a = s3cret from nowhere", "write one such as"),
            ("a = x\na = s3cret", "given twice"),
        ] {
            let error = read_file(&format!("\n{line}")).err().unwrap();
            assert!(error.text.contains(reason) && !error.text.contains("s3cret"), "{error:?}");
            assert_eq!(error.line, 2 + line.matches('\n').count());
        }
    }

    #[test]
    fn weak_keys_are_recognized() {
        for (key, weakness) in [
            ("false", Some(KeyWeakness::Word)),
            ("FALSE", Some(KeyWeakness::Word)),
            ("changeme", Some(KeyWeakness::Word)),
            ("x", Some(KeyWeakness::Short)),
            ("NYR2LtAsKSs7TuY0D8ZIqmMaLcICC3l", Some(KeyWeakness::Short)),
            ("NYR2LtAsKSs7TuY0D8ZIqmMaLcICC3lf_ur4FGlLUcQ", None),
        ] {
            assert_eq!(read_key(key).unwrap().weakness, weakness, "{key}");
        }
        let hashed = read_key(&hash_text("x")).unwrap();
        assert_eq!(hashed.weakness, None, "its length is unknown");
    }

    #[test]
    fn only_generated_keys_have_an_id() {
        let ids = |text: &str| {
            let keys = keys(text);
            keys.names().map(|(_, id)| id.map(str::to_owned)).collect::<Vec<_>>()
        };
        let generated = "NYR2LtAsKSs7TuY0D8ZIqmMaLcICC3lf_ur4FGlLUcQ";
        let id = ids(&format!("a = {generated}\nb = {generated}"));
        assert!(id[0].as_ref().is_some_and(|id| id.len() == 16) && id[0] == id[1]);
        for weak in ["false", "correct-horse-battery-staple-correct-horse-battery", "x"] {
            assert_eq!(ids(&format!("a = {weak}")), [None], "{weak}");
        }
    }
}
