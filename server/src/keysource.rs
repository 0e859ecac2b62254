//! Fetching published key sets: blocking work on a thread of its own, so that a
//! slow provider delays no request and no other issuer's start.

use std::{
    io::{self, Read as _},
    sync::Arc,
    thread,
    time::Duration,
};

use countersign_engine::{
    AlgorithmSet, KeySet,
    jwks::{Origin, Policy, SkippedKey},
    limits,
};
use http::StatusCode;
use percent_encoding::percent_decode_str;
use rustls::crypto::aws_lc_rs;
use ureq::{
    Agent,
    tls::{Certificate, RootCerts, TlsConfig},
};

use crate::{
    app::App,
    config::{IssuerSection, JwksSource, KeySource},
};

/// How long keys are served before they are asked for again.
const REFRESH: Duration = Duration::from_secs(300);
/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(5);

/// Starts one thread for each published key set. They end with the process.
///
/// # Errors
/// The operating system has no thread to give.
pub fn spawn_refreshers(app: &Arc<App>) -> io::Result<()> {
    for section in app.issuers.clone() {
        if let KeySource::Jwks(source) = section.keys.clone() {
            let app = Arc::clone(app);
            thread::Builder::new()
                .name(format!("keys:{}", section.section()))
                .spawn(move || refresh_forever(&app, &section, &source))?;
        }
    }
    Ok(())
}

fn refresh_forever(app: &App, section: &IssuerSection, source: &JwksSource) {
    let (mut asked, mut failing) = (false, true);
    loop {
        let pause = match load(section, source) {
            Ok(keys) => {
                // The first success, and the first after failures.
                if std::mem::replace(&mut failing, false) {
                    tracing::info!(section = section.section(), keys = keys.len(), "keys loaded");
                }
                app.verifier.replace_keys(&section.issuer.name, &Arc::new(keys));
                REFRESH
            }
            Err(reason) => {
                tracing::warn!(section = section.section(), "{reason}");
                failing = true;
                RETRY
            }
        };
        if !std::mem::replace(&mut asked, true) {
            app.readiness.asked_one();
        }
        thread::sleep(pause);
    }
}

/// Fetches and reads the key set of a section, once, waiting for it.
///
/// # Errors
/// The real system's sentence for a provider that cannot be asked, with the reason.
pub fn load(section: &IssuerSection, source: &JwksSource) -> Result<KeySet, String> {
    let failed = |reason: String| {
        let (name, uri) = (section.section(), &source.uri);
        format!("Unable to load key data for {name} using the provided jwks_uri {uri}. Got error: {reason}")
    };
    let json = fetch(source).map_err(failed)?;
    let (keys, skipped) = read(&json, section.issuer.algorithms).map_err(failed)?;
    for key in skipped {
        tracing::warn!(section = section.section(), uri = source.uri, "key skipped: {key}");
    }
    Ok(keys)
}

fn read(json: &[u8], algorithms: AlgorithmSet) -> Result<(KeySet, Vec<SkippedKey>), String> {
    let policy = Policy { origin: Origin::Published, algorithms: Some(algorithms) };
    let (keys, skipped) = KeySet::from_jwks(json, policy).map_err(|fault| fault.to_string())?;
    if keys.is_empty() {
        let reasons: Vec<_> = skipped.iter().map(SkippedKey::to_string).collect();
        return Err(format!("the key set holds no usable key ({})", reasons.join("; ")));
    }
    Ok((keys, skipped))
}

fn fetch(source: &JwksSource) -> Result<Vec<u8>, String> {
    // One byte more than allowed, so that the engine can say what is wrong.
    let most = u64::try_from(limits::KEY_SET_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    if let Some(path) = source.uri.strip_prefix("file://") {
        return read_file(path.strip_prefix("localhost").unwrap_or(path), most).map_err(|error| error.to_string());
    }
    let mut response = agent(source)?.get(&source.uri).call().map_err(|error| error.to_string())?;
    if response.status() != StatusCode::OK {
        return Err(format!("the provider answered {} where 200 is needed; redirects are not followed", response.status()));
    }
    response.body_mut().with_config().limit(most).read_to_vec().map_err(|error| error.to_string())
}

fn read_file(path: &str, most: u64) -> io::Result<Vec<u8>> {
    let path = percent_decode_str(path).decode_utf8_lossy();
    let mut bytes = Vec::new();
    std::fs::File::open(&*path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn agent(source: &JwksSource) -> Result<Agent, String> {
    let tls = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(aws_lc_rs::default_provider()))
        .disable_verification(!source.validate_cert);
    let tls = if source.uri.starts_with("https:") && source.validate_cert { tls.root_certs(system_roots()?) } else { tls };
    let config = Agent::config_builder()
        .tls_config(tls.build())
        .timeout_global(Some(source.timeout))
        // A redirect would let a provider point us at any host inside.
        .max_redirects(0)
        .user_agent("countersign")
        .accept("application/jwk-set+json, application/json");
    Ok(config.build().new_agent())
}

fn system_roots() -> Result<RootCerts, String> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        return Err("the operating system has no trusted certificates (install ca-certificates)".into());
    }
    Ok(found.certs.iter().map(|certificate| Certificate::from_der(certificate.as_ref()).to_owned()).collect::<Vec<_>>().into())
}
