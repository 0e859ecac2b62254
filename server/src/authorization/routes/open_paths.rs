//! `open_paths` of a listener: paths that need no token.

use std::sync::Arc;

use super::{
    pattern::{MethodNames, RoutePattern},
    trie::{FoundRules, RouteTrie},
};
use crate::{
    authorization::request_path::{EncodedSlash, canonical},
    base::redacted::quoted,
    config::reader::SectionReader,
};

/// The paths of a listener that need no token, for GET and HEAD.
#[derive(Clone, Debug, Default)]
pub struct OpenPaths(Option<Arc<OpenPatterns>>);

#[derive(Debug)]
struct OpenPatterns {
    patterns: Vec<RoutePattern>,
    trie: RouteTrie,
}

impl OpenPaths {
    /// Reads `open_paths` of a listener.
    pub(crate) fn read(reader: &mut SectionReader<'_>) -> Self {
        const OPTION: &str = "open_paths";
        let mut patterns = Vec::new();
        for path in reader.list(OPTION).unwrap_or_default() {
            match RoutePattern::parse_path(path) {
                Ok(pattern) => patterns.push(pattern),
                Err(mistake) => {
                    let text =
                        format!("{OPTION} in {}: {}: {mistake}", reader.section, quoted(path));
                    reader.error(OPTION, text, "write paths such as /healthz, /static/*");
                }
            }
        }
        if patterns.is_empty() {
            return Self(None);
        }
        let numbered = patterns.iter().enumerate();
        let trie = RouteTrie::new(MethodNames::default(), numbered);
        Self(Some(Arc::new(OpenPatterns { patterns, trie })))
    }

    /// Whether a request needs no token. An ambiguous path is not open.
    #[inline]
    #[must_use]
    pub fn contains(&self, method: &str, target: &str) -> bool {
        self.0.as_ref().is_some_and(|open| open.contains(method, target))
    }

    /// Returns the patterns.
    #[must_use]
    pub fn patterns(&self) -> &[RoutePattern] {
        self.0.as_ref().map(|open| &*open.patterns).unwrap_or_default()
    }
}

impl OpenPatterns {
    fn contains(&self, method: &str, target: &str) -> bool {
        let Ok(path) = canonical(target, EncodedSlash::Ambiguous) else { return false };
        let FoundRules { exact, .. } = self.trie.find(method, &path);
        exact.is_some()
    }
}
