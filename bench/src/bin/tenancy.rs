//! Cost of multi-tenancy: the tenant of a cached token, as the ratio to the cached verification
//! before it, and the check of an API key among 100, by the position of the key.
//!
//! Usage: `taskset -c 1 target/dist/tenancy`, on an otherwise idle machine.

use std::{
    fmt::Write as _,
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Instant,
};

use countersign_bench::{
    AUDIENCE, ISSUER, NOW, budget, cache_bytes, hs256_token_with, padded_key, paired::compare,
};
use countersign_engine::{Algorithm, IssuerConfig, Rules, Verifier};
use countersign_server::{
    config::{Config, ConfigFormat, RawConfig},
    tenancy::{
        api_keys::{self, ApiKeys},
        identity::TenantIdentity,
        tenant::{TenantAccess, TenantImpersonation},
    },
};
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    tenant_of_cached_token();
    api_key_by_position();
}

fn tenant_of_cached_token() {
    let mut raw = RawConfig::default();
    let text = "[listen]\nsurface=orchestrate\n[multi_tenancy]\napi_key=key\n";
    raw.add("bench", text, ConfigFormat::Ini);
    let settings = Config::from_raw(raw).unwrap_or_else(|problems| panic!("{problems}")).settings;
    let tenancy = settings.auth.tenancy.as_ref().expect("the surface");
    let exported_claims = Arc::clone(settings.auth.identity_headers.exported_claims());
    let rules = Rules { exported_claims, ..Rules::new(AUDIENCE) };
    let issuer = IssuerConfig { rules, ..IssuerConfig::new(ISSUER, AUDIENCE, [Algorithm::Hs256]) };
    let builder = Verifier::builder().issuer(issuer, padded_key());
    let verifier = builder.cache_bytes(cache_bytes(1_000)).build().expect("room for a cache");
    for (name, tenant) in [("tenant", "acme"), ("nested tenant", "acme:east:blue")] {
        let claim = json!({ "tenant_id": tenant, "username": "alice" });
        let token = hs256_token_with(tenancy.claim.name(), claim);
        let verify = || verifier.verify(black_box(token.as_bytes()), NOW).is_ok();
        assert!(verify());
        let verified = verifier.verify(token.as_bytes(), NOW).expect("a good token");
        let act = |asked: TenantImpersonation<'_>| {
            let credential = tenancy.credential(black_box(&verified)).ok().and_then(Result::ok);
            let access = credential.and_then(|of| TenantAccess::of(of, asked).ok());
            access.is_some_and(|access| !TenantIdentity::new(&access).tenant().is_empty())
        };
        let own = || act(black_box(TenantImpersonation::default()));
        compare(&format!("the {name} of a cached token / a cached verification"), &own, &verify);
    }
}

const KEYS: usize = 100;

/// Prints the distribution of the times of the 100 keys, and of a wrong one among them. Each is
/// the median of rounds in which all take turns.
#[expect(clippy::print_stdout, reason = "the report")]
fn api_key_by_position() {
    let (mut text, mut secrets) = (String::new(), Vec::new());
    for number in 0..KEYS {
        let secret = format!("{number:03}-correct-horse-battery-staple-0123456789");
        let _infallible = writeln!(text, "key-{number} = {secret}");
        secrets.push(secret);
    }
    let keys = ApiKeys::new(api_keys::read_file(&text).expect("a list"));
    secrets.push("xxx-correct-horse-battery-staple-0123456789".into());
    let mut times = vec![Vec::new(); secrets.len()];
    for _ in 0..ROUNDS {
        for (secret, times) in secrets.iter().zip(&mut times) {
            times.push(check(&keys, secret));
        }
    }
    let medians: Vec<_> = times.into_iter().map(median).collect();
    let (wrong, found) = medians.split_last().expect("times");
    let mut sorted = found.to_vec();
    sorted.sort_by(f64::total_cmp);
    let of = |percent: usize| sorted[(KEYS - 1) * percent / 100];
    println!(
        "API key among {KEYS}, ns by position: least {:.0}, 10 % {:.0}, median {:.0}, 90 % {:.0}, \
         most {:.0}; a wrong key {wrong:.0}",
        of(0),
        of(10),
        of(50),
        of(90),
        of(100)
    );
    println!("first to last position: {:.0?}", found.iter().step_by(11).collect::<Vec<_>>());
    let least = of(0).min(*wrong);
    let most = of(100).max(*wrong);
    budget::print("slowest of 100 API keys / fastest", most / least, "a wrong key included");
}

const ROUNDS: usize = 301;
const CALLS: u32 = 200;

/// Returns the nanoseconds of one check.
fn check(keys: &ApiKeys, secret: &str) -> f64 {
    let client = || IpAddr::V4(Ipv4Addr::LOCALHOST);
    let start = Instant::now();
    for _ in 0..CALLS {
        black_box(keys.find(black_box(secret.as_bytes()), client));
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
