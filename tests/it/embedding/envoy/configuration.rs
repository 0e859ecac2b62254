//! Configurations of Envoy, as JSON, which is YAML.

use std::{net::SocketAddr, path::Path};

use serde_json::{Value, json};

use super::{super::module_proxy::ModuleAddresses, module};

const TYPES: &str = "type.googleapis.com/envoy.extensions";

/// The parts of a configuration that differ between tests.
pub(super) struct EnvoyOptions {
    /// Of the filter, in addition to its file.
    pub(super) filter_config: Value,
    /// Whether Envoy takes the client's address from its connection, and not from header lines.
    pub(super) use_remote_address: bool,
    /// Of the listener's connections: `transport_socket`.
    pub(super) tls: Option<Value>,
    /// Added to all responses.
    pub(super) response_headers: Value,
    /// Further routes, in front of the others.
    pub(super) routes: Vec<Value>,
}

impl Default for EnvoyOptions {
    fn default() -> Self {
        Self {
            filter_config: json!({}),
            use_remote_address: true,
            tls: None,
            response_headers: json!({}),
            routes: Vec::new(),
        }
    }
}

impl EnvoyOptions {
    pub(super) fn of_filter(filter_config: Value) -> Self {
        Self { filter_config, ..Self::default() }
    }
}

/// Returns a configuration with one listener and an administration interface, whose address is that
/// for HTTP/2.
pub(super) fn bootstrap(addresses: ModuleAddresses, options: &EnvoyOptions) -> Value {
    json!({
        "admin": { "address": socket_address(addresses.http2) },
        "static_resources": {
            "listeners": [listener(addresses.proxy, options)],
            "clusters": [application(addresses.application)],
        },
    })
}

/// Returns a configuration whose listeners are in a file.
pub(super) fn dynamic_bootstrap(addresses: ModuleAddresses, listeners: &Path) -> Value {
    json!({
        "admin": { "address": socket_address(addresses.http2) },
        "node": { "id": "test", "cluster": "test" },
        "dynamic_resources": {
            "lds_config": { "path_config_source": { "path": listeners } },
        },
        "static_resources": { "clusters": [application(addresses.application)] },
    })
}

/// Returns the contents of that file.
pub(super) fn listeners(proxy: SocketAddr, options: &EnvoyOptions, version: u32) -> Value {
    let mut listener = listener(proxy, options);
    listener["@type"] = json!("type.googleapis.com/envoy.config.listener.v3.Listener");
    json!({ "version_info": version.to_string(), "resources": [listener] })
}

fn socket_address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip(), "port_value": address.port() } })
}

fn application(address: SocketAddr) -> Value {
    let endpoint = json!({ "endpoint": { "address": socket_address(address) } });
    json!({
        "name": "application",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": "application",
            "endpoints": [{ "lb_endpoints": [endpoint] }],
        },
    })
}

fn listener(address: SocketAddr, options: &EnvoyOptions) -> Value {
    let network = format!("{TYPES}.filters.network.http_connection_manager.v3");
    let router = format!("{TYPES}.filters.http.router.v3.Router");
    let manager = json!({
        "@type": format!("{network}.HttpConnectionManager"),
        "stat_prefix": "proxy",
        "use_remote_address": options.use_remote_address,
        "access_log": [{ "name": "envoy.access_loggers.stdout", "typed_config": access_log() }],
        "common_http_protocol_options": { "max_headers_count": 1100 },
        "route_config": routes(options),
        "http_filters": [
            { "name": "countersign", "typed_config": filter(&options.filter_config) },
            {
                "name": "envoy.filters.http.router",
                "typed_config": { "@type": router },
            },
        ],
    });
    let mut chain = json!({
        "filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": manager,
        }],
    });
    if let Some(tls) = &options.tls {
        chain["transport_socket"] = tls.clone();
    }
    json!({
        "name": "proxy",
        "address": socket_address(address),
        "filter_chains": [chain],
    })
}

/// Returns an access log on standard output, with the details of responses.
fn access_log() -> Value {
    json!({
        "@type": format!("{TYPES}.access_loggers.stream.v3.StdoutAccessLog"),
        "log_format": {
            "text_format_source": { "inline_string": "details=%RESPONSE_CODE_DETAILS%\n" },
        },
    })
}

fn library() -> Value {
    json!({
        "module": { "local": { "filename": module() } },
        "do_not_close": true,
        "metrics_namespace": "countersign",
    })
}

fn filter(options: &Value) -> Value {
    let mut config = json!({ "config_file": "auth.cfg" });
    for (name, value) in options.as_object().unwrap() {
        config[name] = value.clone();
    }
    json!({
        "@type": format!("{TYPES}.filters.http.dynamic_modules.v3.DynamicModuleFilter"),
        "dynamic_module_config": library(),
        "filter_name": "countersign",
        "filter_config": { "@type": "type.googleapis.com/google.protobuf.Struct", "value": config },
    })
}

fn routes(options: &EnvoyOptions) -> Value {
    let mut routes = options.routes.clone();
    routes.extend([
        route("/routed/", Some("routed")),
        route("/off", Some("off")),
        route("/", None),
    ]);
    let added = options.response_headers.as_object().unwrap().iter();
    let added = added.map(|(name, value)| json!({ "header": { "key": name, "value": value } }));
    json!({
        "virtual_hosts": [{
            "name": "application",
            "domains": ["*"],
            "routes": routes,
            "response_headers_to_add": added.collect::<Vec<_>>(),
        }],
    })
}

/// Returns a route of these paths, whose requests are checked by other rules.
pub(super) fn route(prefix: &str, rules: Option<&str>) -> Value {
    let mut route = json!({
        "match": { "prefix": prefix },
        "route": { "cluster": "application" },
    });
    if let Some(rules) = rules {
        route["typed_per_filter_config"]["countersign"] = json!({
            "@type": format!("{TYPES}.filters.http.dynamic_modules.v3.DynamicModuleFilterPerRoute"),
            "dynamic_module_config": library(),
            "filter_name": rules,
        });
    }
    route
}

/// Returns TLS with the files `tls.crt` and `tls.key`, which asks for the client's certificate.
pub(super) fn tls() -> Value {
    let tls = format!("{TYPES}.transport_sockets.tls.v3.DownstreamTlsContext");
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": tls,
            "common_tls_context": {
                "tls_certificates": [{
                    "certificate_chain": { "filename": "tls.crt" },
                    "private_key": { "filename": "tls.key" },
                }],
                "validation_context": {
                    "trusted_ca": { "filename": "clients.crt" },
                },
            },
        },
    })
}
