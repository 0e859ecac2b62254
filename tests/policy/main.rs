//! Access policies: the default policy against its description, errors, and the limits of
//! evaluations.

mod behaviours;
mod commands;
mod default_policy;
mod errors;
mod limits;
mod log;
mod other_engine;
mod roles_and_endpoints;
mod settings;
