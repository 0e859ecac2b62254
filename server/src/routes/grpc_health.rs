//! `grpc.health.v1.Health/Check`: whether calls are answered as they will be from now
//! on. There is no `Watch`: who wants to know asks again, and clients that would rather
//! be told take its absence for health, as they are meant to.

use http::StatusCode;

use super::Reply;
use crate::{
    app::App,
    grpc::{
        self, GrpcError, GrpcStatus,
        protobuf::{put_number, singular},
    },
};

/// The name of the method.
pub(super) const PATH: &str = "/grpc.health.v1.Health/Check";

/// The whole server, and its services.
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
            message: "there is no such service",
        }
        .into(),
        Err(fault) => fault.into(),
    }
}

fn service(body: &[u8]) -> Result<&[u8], GrpcError> {
    let [service] = singular(grpc::message(body)?, [1])?;
    Ok(service.unwrap_or_default())
}
