//! Endpoints: the operations of an API, with the properties that authorization needs.
//!
//! [`EndpointTable`] finds the endpoint and the parameters of a request. It has the endpoints of
//! the Inmanta API of this server ([`api`]), and those of a file in Inmanta's format, which may be
//! [made from an OpenAPI document](openapi).

pub mod api;
mod endpoint;
mod file;
pub mod openapi;
mod parameters;
mod query;
pub mod settings;
mod similar;
mod table;
#[cfg(test)]
mod tests;

pub use self::{
    endpoint::{Endpoint, EnvironmentScope},
    file::EndpointFileError,
    parameters::{EndpointParameter, ParameterPlace, ParameterType, RequestError},
    table::{EndpointTable, FoundEndpoint},
};
