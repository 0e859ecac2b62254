//! [`EndpointTable`]: finds the endpoint of a request.

use std::collections::BTreeMap;

use countersign_front::Fields;
use http::HeaderName;
use matchit::Router;
use serde_json::{Map, Value, json};

use super::{
    Endpoint, EndpointFileError, RequestError,
    api::ENDPOINTS,
    endpoint::parameter_name,
    file,
    parameters::{self, ParameterSources},
    similar::SimilarEndpoints,
};

/// All known endpoints, by method and path.
#[derive(Debug, Default)]
pub struct EndpointTable {
    endpoints: BTreeMap<Box<str>, Endpoint>,
    /// For each method, the ids by their paths.
    routers: BTreeMap<Box<str>, Router<Box<str>>>,
    similar: SimilarEndpoints,
    /// The headers that are parameters of any endpoint.
    headers: Vec<HeaderName>,
}

/// The endpoint of a request, and its parameters.
#[derive(Debug)]
pub struct FoundEndpoint<'t> {
    /// The id of the endpoint. For an unknown one, the method and the path of the request.
    pub id: String,
    /// The endpoint, if it is known.
    pub endpoint: Option<&'t Endpoint>,
    /// The parameters of the request, with the declared defaults.
    pub parameters: Map<String, Value>,
}

impl EndpointTable {
    /// Returns the endpoints of the Inmanta API of this server.
    #[must_use]
    pub fn of_api() -> Self {
        let mut table = Self::default();
        for endpoint in ENDPOINTS {
            let parsed = Endpoint::parse(&endpoint.id(), &endpoint.properties().to_string());
            // A test parses every endpoint.
            let _in_table = parsed.map(|endpoint| table.insert(endpoint));
        }
        table
    }

    /// Adds the endpoints of a file, which replace those with the same id.
    ///
    /// # Errors
    /// The first mistake in the file.
    pub fn add_file(&mut self, text: &str) -> Result<(), EndpointFileError> {
        for endpoint in file::parse(text)? {
            let id = endpoint.id.clone();
            self.insert(endpoint)
                .map_err(|text| EndpointFileError { endpoint: Some(id.into()), text })?;
        }
        Ok(())
    }

    fn insert(&mut self, endpoint: Endpoint) -> Result<(), String> {
        let replaced = self.endpoints.contains_key(&endpoint.id);
        let router = self.routers.entry(endpoint.method().into()).or_default();
        let pattern = pattern(endpoint.path());
        let has_own_path = replaced
            || router.insert(&*pattern, endpoint.id.clone()).is_ok()
                && self.similar.insert(&endpoint, &pattern);
        if !has_own_path {
            return Err("an earlier endpoint has the same method and path".into());
        }
        for header in endpoint.headers() {
            if !self.headers.contains(header) {
                self.headers.push(header.clone());
            }
        }
        self.endpoints.insert(endpoint.id.clone(), endpoint);
        Ok(())
    }

    /// Returns the endpoint with this id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Endpoint> {
        self.endpoints.get(id)
    }

    /// Returns the endpoints in the form of `data` in policies.
    #[must_use]
    pub fn data(&self) -> Value {
        let endpoints = self.endpoints.values();
        let endpoints = endpoints.map(|one| (one.id.to_string(), one.properties.clone()));
        json!({ "endpoints": endpoints.collect::<Map<_, _>>() })
    }

    /// Returns the headers that are parameters of any endpoint.
    #[must_use]
    pub fn headers(&self) -> &[HeaderName] {
        &self.headers
    }

    /// Finds the endpoint of a request by its method and its canonical path, and reads its
    /// parameters. HEAD finds the endpoint of GET where HEAD has none.
    ///
    /// # Errors
    /// The path or the parameters could be read in more than one way.
    pub fn find(
        &self,
        method: &str,
        path: &str,
        query: &str,
        headers: &dyn Fields,
    ) -> Result<FoundEndpoint<'_>, RequestError> {
        let at = |method: &str| self.routers.get(method)?.at(path).ok();
        let found = at(method).or_else(|| at("GET").filter(|_| method == "HEAD"));
        let values: Vec<_> =
            found.iter().flat_map(|found| found.params.iter()).map(|(_, value)| value).collect();
        let endpoint = found.and_then(|found| self.get(found.value));
        if self.similar.has_other(method, path, endpoint) {
            return Err(RequestError::SimilarPath);
        }
        let sources = ParameterSources { path: &values, query, headers };
        let mut parameters = parameters::collect(endpoint, &sources)?;
        let id = match endpoint {
            Some(endpoint) => {
                parameters::add_defaults(&mut parameters, endpoint);
                endpoint.id.to_string()
            }
            None => format!("{method} {path}"),
        };
        Ok(FoundEndpoint { id, endpoint, parameters })
    }

    /// Returns a call of the API of this server with these parameters. Those of its body must not
    /// contradict others.
    ///
    /// # Errors
    /// A parameter has two values.
    pub fn api_call(
        &self,
        id: String,
        mut parameters: Map<String, Value>,
        body: Map<String, Value>,
    ) -> Result<FoundEndpoint<'_>, RequestError> {
        let endpoint = self.get(&id);
        parameters::add_body(&mut parameters, body)?;
        if let Some(endpoint) = endpoint {
            parameters::add_defaults(&mut parameters, endpoint);
        }
        Ok(FoundEndpoint { id, endpoint, parameters })
    }
}

/// Returns the path as the router writes it. Parameters are numbered, because the paths of two
/// endpoints may have different names at the same place.
fn pattern(path: &str) -> String {
    let segments = path.split('/').enumerate().map(|(index, segment)| {
        parameter_name(segment).map_or_else(|| segment.to_owned(), |_| format!("{{p{index}}}"))
    });
    segments.collect::<Vec<_>>().join("/")
}
