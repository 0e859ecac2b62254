//! Names of parameters in a query, of which applications read several spellings as one: `env`,
//! `ENV`, `env[]`, ` env`.

use std::collections::{HashMap, HashSet};

use super::{Endpoint, EnvironmentScope, RequestError};
use crate::authorization::spelling::folded;

/// The names in a query and those that the endpoint declares, by their common spelling.
pub(super) struct QueryNames {
    names: HashMap<String, QueryName>,
    /// Names before a bracket: `env` for `env[0]`.
    containers: HashSet<String>,
}

struct QueryName {
    name: String,
    /// The first value. `None` if the endpoint declares the name.
    value: Option<String>,
}

impl QueryNames {
    pub(super) fn new(endpoint: Option<&Endpoint>) -> Self {
        let declared = endpoint.into_iter().flat_map(declared);
        let declared = declared
            .map(|name| (common_spelling(name), QueryName { name: name.into(), value: None }));
        Self { names: declared.collect(), containers: HashSet::new() }
    }

    /// Adds a name with its value. That the same name has one value is checked elsewhere.
    ///
    /// # Errors
    /// An application may take the name for another one, which the endpoint declares or which has
    /// another value.
    pub(super) fn add(&mut self, name: &str, value: &str) -> Result<(), RequestError> {
        let spelling = common_spelling(name);
        let is_in_other = match spelling.split_once('[') {
            Some((container, _)) => {
                self.containers.insert(container.into());
                self.names.contains_key(container)
            }
            None => self.containers.contains(&spelling),
        };
        let is_other = self
            .names
            .get(&spelling)
            .is_some_and(|known| known.name != name && known.value.as_deref() != Some(value));
        if is_in_other || is_other {
            return Err(RequestError::Spelling(name.into()));
        }
        let first = || QueryName { name: name.into(), value: Some(value.into()) };
        self.names.entry(spelling).or_insert_with(first);
        Ok(())
    }
}

/// Returns the names that an endpoint declares.
fn declared(endpoint: &Endpoint) -> impl Iterator<Item = &str> {
    let environment = match &endpoint.environment {
        EnvironmentScope::Parameter(name) => Some(&**name),
        EnvironmentScope::Global | EnvironmentScope::Any => None,
    };
    let parameters = endpoint.parameters.iter().map(|parameter| &*parameter.name);
    endpoint.path_parameters.iter().map(|name| &**name).chain(parameters).chain(environment)
}

/// Returns the spelling that names have in common which an application may read as one. PHP reads
/// `a.b` and `a b` as `a_b`.
fn common_spelling(name: &str) -> String {
    let name = name.split('\0').next().unwrap_or_default().replace("[]", "");
    folded(name.trim()).replace(['.', ' '], "_")
}
