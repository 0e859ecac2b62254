//! Envoy with the module, in front of an application.

mod configuration;
pub(super) mod dynamic;
mod lifecycle;
mod proxy_protocol;
mod restart;
mod results;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

use countersign_tests::{
    binary,
    proxies::{installed_program, shipped_config},
};

use self::configuration::{EnvoyOptions, bootstrap};
use super::{
    contract::{self, ModuleKind},
    module_proxy::{ModuleAddresses, ModuleProxy},
};

const KIND: ModuleKind = ModuleKind { shipped, routed };

/// Builds the module once and returns its file.
fn module() -> &'static Path {
    static MODULE: OnceLock<PathBuf> = OnceLock::new();
    MODULE.get_or_init(|| {
        let name = "libcountersign_envoy.so";
        binary::built_library(name).join(name)
    })
}

/// Returns the command that runs Envoy with this configuration, with two workers.
fn command(directory: &Path, configuration: &str) -> Command {
    let mut command = restartable(directory, "envoy.yaml", configuration);
    command.arg("--disable-hot-restart");
    command
}

/// Like [`command`], with this file of the configuration, and able to restart without an
/// interruption.
fn restartable(directory: &Path, name: &str, configuration: &str) -> Command {
    let file = directory.join(name);
    std::fs::write(&file, configuration).unwrap();
    let mut command = Command::new(installed_program("envoy"));
    command.args(["--concurrency", "2", "--log-level", "info"]);
    command.arg("--config-path").arg(file);
    command
}

/// Validates a configuration.
fn validate(directory: &Path, configuration: &str) -> Output {
    let mut command = command(directory, configuration);
    command.args(["--mode", "validate"]).current_dir(directory).output().unwrap()
}

/// Starts Envoy as shipped.
fn shipped(configuration: &str) -> ModuleProxy {
    shipped_with(configuration, |text| text)
}

/// Starts Envoy as shipped, with a change of its configuration.
fn shipped_with(configuration: &str, change: impl Fn(String) -> String) -> ModuleProxy {
    ModuleProxy::start(configuration, |directory, addresses| {
        let ModuleAddresses { proxy, application, .. } = addresses;
        let place = |address: std::net::SocketAddr| {
            format!("address: {}, port_value: {} ", address.ip(), address.port())
        };
        let replaced = [
            ("address: 127.0.0.1, port_value: 8000 ", place(proxy)),
            ("address: 127.0.0.1, port_value: 8080 ", place(application)),
            ("/etc/countersign/auth.cfg", "auth.cfg".to_owned()),
            ("/usr/lib/envoy/libcountersign_envoy.so", module().display().to_string()),
        ];
        let text = replaced.iter().fold(
            shipped_config("envoy-module.yaml"),
            |text, (word, replacement)| {
                assert!(text.contains(word), "{word}");
                text.replace(word, replacement)
            },
        );
        command(directory, &change(text))
    })
}

/// Starts Envoy with the routes of the contract.
pub(super) fn routed(configuration: &str) -> ModuleProxy {
    start(configuration, &EnvoyOptions::default())
}

/// Starts Envoy with these options.
fn start(configuration: &str, options: &EnvoyOptions) -> ModuleProxy {
    let mut proxy = ModuleProxy::start(configuration, |directory, addresses| {
        command(directory, &bootstrap(addresses, options).to_string())
    });
    // One address has both versions.
    proxy.http2 = proxy.address;
    proxy
}

#[test]
fn envoy_module_keeps_the_contract() {
    contract::check(&KIND);
}
