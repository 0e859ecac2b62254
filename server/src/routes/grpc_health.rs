//! `grpc.health.v1.Health/Check`: reports whether the server is ready.
//!
//! `Watch` is not implemented. Clients poll `Check` instead, and those that prefer `Watch` treat
//! its absence as healthy, as the protocol requires.

use http::StatusCode;

use super::Reply;
use crate::{
    app::App,
    grpc::{
        self, GrpcError, GrpcStatus,
        protobuf::{put_number, singular},
    },
};

/// Path of the method.
pub(super) const PATH: &str = "/grpc.health.v1.Health/Check";

/// Known service names; the empty one stands for the whole server.
const SERVICES: [&[u8]; 2] = [b"", b"envoy.service.auth.v3.Authorization"];
const SERVING: u64 = 1;
const NOT_SERVING: u64 = 2;

pub(super) fn answer(app: &App, body: &[u8]) -> Reply {
    match service(body) {
        Ok(service) if SERVICES.contains(&service) => {
            let status = if app.is_ready() { SERVING } else { NOT_SERVING };
            Reply::message(grpc::framed(|out| put_number(out, 1, status)))
        }
        Ok(_) => GrpcError {
            code: GrpcStatus::NotFound,
            status: StatusCode::NOT_FOUND,
            message: "unknown service",
        }
        .into(),
        Err(error) => error.into(),
    }
}

fn service(body: &[u8]) -> Result<&[u8], GrpcError> {
    let [service] = singular(grpc::message(body)?, [1])?;
    Ok(service.unwrap_or_default())
}
