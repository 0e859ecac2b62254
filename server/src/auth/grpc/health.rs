//! `grpc.health.v1.Health/Check`: reports whether the server is ready.
//!
//! `Watch` is not implemented. Clients poll `Check` instead, and those that prefer `Watch` treat
//! its absence as healthy, as the protocol requires.

use http::StatusCode;

use super::{
    GrpcError, GrpcStatus,
    protobuf::{put_number, singular},
};
use crate::{auth::grpc, base::reply::Reply};

/// Known service names; the empty one stands for the whole server.
const SERVICES: [&[u8]; 2] = [b"", b"envoy.service.auth.v3.Authorization"];
const SERVING: u64 = 1;
const NOT_SERVING: u64 = 2;

/// Answers a health check.
#[must_use]
pub fn respond(is_ready: bool, body: &[u8]) -> Reply {
    match service(body) {
        Ok(service) if SERVICES.contains(&service) => {
            let status = if is_ready { SERVING } else { NOT_SERVING };
            grpc::message_reply(grpc::framed(|out| put_number(out, 1, status)))
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
