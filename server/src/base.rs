//! Types and functions shared by all features: time, files, claims, routes and responses.

pub mod background_pool;
pub mod claims;
pub mod clock;
pub mod exact_json;
pub mod header_names;
pub mod hex;
pub mod outcome;
pub mod permissions;
pub mod printable;
pub mod redacted;
pub mod reply;
pub mod revocation_list;
pub mod roots;
pub mod route;
pub mod secret_hash;
pub mod strict_json;
pub mod tenant_label;
pub mod uri;
pub mod watched_file;
pub mod whole_number;
#[cfg(test)]
pub(crate) mod test_headers;
