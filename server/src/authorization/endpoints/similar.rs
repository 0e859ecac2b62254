//! Endpoints that an application may find for a path because it ignores letters' case or a slash at
//! the end, or decodes an encoded slash.

use std::collections::BTreeMap;

use matchit::Router;

use super::Endpoint;
use crate::authorization::{request_path::ENCODED_SLASH, spelling::folded};

/// The endpoints by method and folded path.
#[derive(Debug, Default)]
pub(super) struct SimilarEndpoints {
    routers: BTreeMap<Box<str>, Router<Box<str>>>,
    /// The ids of the endpoints whose folded paths are the same.
    ids: BTreeMap<Box<str>, Vec<Box<str>>>,
}

impl SimilarEndpoints {
    /// Adds an endpoint with its pattern. Returns whether the router takes the pattern.
    pub(super) fn insert(&mut self, endpoint: &Endpoint, pattern: &str) -> bool {
        let pattern = folded(pattern);
        let key: Box<str> = format!("{} {pattern}", endpoint.method()).into();
        let ids = self.ids.entry(key.clone()).or_default();
        ids.push(endpoint.id.clone());
        let router = self.routers.entry(endpoint.method().into()).or_default();
        ids.len() > 1 || router.insert(pattern, key).is_ok()
    }

    /// Whether an application may take a request for one of another endpoint than that which was
    /// found.
    pub(super) fn has_other(&self, method: &str, path: &str, found: Option<&Endpoint>) -> bool {
        let as_written = folded(path);
        let decoded =
            path.contains(ENCODED_SLASH).then(|| folded(&path.replace(ENCODED_SLASH, "/")));
        let method = method.to_ascii_uppercase();
        [Some(as_written), decoded].into_iter().flatten().any(|path| {
            let is_other = self
                .at(&method, &path)
                .is_some_and(|ids| found.is_none_or(|found| !ids.contains(&found.id)));
            let other_ending = match path.strip_suffix('/') {
                Some(path) => path.to_owned(),
                None => format!("{path}/"),
            };
            let is_nearer = || {
                let ids = self.at(&method, &other_ending)?;
                let found = found.map_or(usize::MAX, |found| found.path_parameters.len());
                Some(ids.iter().any(|id| parameters(id) < found))
            };
            is_other || is_nearer() == Some(true)
        })
    }

    fn at(&self, method: &str, path: &str) -> Option<&Vec<Box<str>>> {
        let at = |method: &str| self.routers.get(method)?.at(path).ok();
        let found = at(method).or_else(|| at("GET").filter(|_| method == "HEAD"))?;
        self.ids.get(found.value)
    }
}

/// Returns the number of parameters in the path of an id.
fn parameters(id: &str) -> usize {
    id.split('/').filter(|segment| segment.starts_with(['<', '{'])).count()
}
