//! The status of the server.

use http::Response;
use serde_json::{Value, json};

use super::data;
use crate::{api::ApiContext, base::reply::Body, store::DatabaseKind};

/// Answers with the status of the server: its version, and the state of its database.
///
/// There is neither an extension, nor a feature to switch, nor Python.
pub(super) async fn respond(context: &ApiContext<'_>) -> Response<Body> {
    let mut slices = vec![slice("core.server", &json!({}), None)];
    let mut postgresql_version = None;
    if let Some(users) = context.users {
        let store = &users.store;
        let version = store.database_version().await;
        let failure = version.as_ref().err().map(|_logged| "the database does not answer");
        if let Err(error) = &version {
            tracing::error!("{error}");
        }
        let database = match store.kind() {
            DatabaseKind::Sqlite => "SQLite",
            DatabaseKind::Postgres => "PostgreSQL",
        };
        let status = json!({ "connected": version.is_ok(), "database": database });
        slices.push(slice("core.database", &status, failure));
        postgresql_version = version.ok().filter(|_| store.kind() == DatabaseKind::Postgres);
    }
    let is_failing = slices.iter().any(|slice| slice["reported_status"] != OK);
    data(&json!({
        "product": "Countersign",
        "edition": "Auth tier",
        "version": env!("CARGO_PKG_VERSION"),
        "license": env!("CARGO_PKG_LICENSE"),
        "extensions": [],
        "slices": slices,
        "features": [],
        "status": if is_failing { ERROR } else { OK },
        "python_version": "",
        "postgresql_version": postgresql_version,
    }))
}

const OK: &str = "OK";
const ERROR: &str = "Error";

fn slice(name: &str, status: &Value, failure: Option<&str>) -> Value {
    let reported = if failure.is_some() { ERROR } else { OK };
    json!({ "name": name, "status": status, "reported_status": reported, "message": failure })
}
