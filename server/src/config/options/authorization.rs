//! Options of authorization.

use super::{SectionSpec, text};

pub(super) const ENDPOINTS: SectionSpec = SectionSpec::new(
    "endpoints",
    "The endpoints of the APIs behind the server, for `authorization = legacy` and \
     `policy-engine`.",
    &[&[text("file", "path", "").unset("the API of this server only").about(
        "Endpoints in the form of Inmanta's endpoint data, as `countersign endpoints import` \
         makes it from an OpenAPI document.",
        "/etc/countersign/endpoints.json",
    )]],
);
