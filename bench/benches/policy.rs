//! Tracks the evaluation of an access policy: the default policy of the Inmanta server, about a
//! request whose parameters and claims are JSON.
//!
//! The baselines evaluate the same policy with the library alone, from an input that is converted
//! already: in its interpreter, and in its register machine without limits.

use std::{hint::black_box, path::Path, time::Duration};

use countersign_server::authorization::policy::{DEFAULT_POLICY, Policy, PolicyInput};
use criterion::{Criterion, criterion_group, criterion_main};
use regorus::{Engine, Value, languages::rego::compiler::Compiler, rvm::RegoVM};
use serde_json::{Value as Json, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ENVIRONMENT: &str = "11111111-1111-1111-1111-111111111111";

/// A hundred endpoints, as many as an Inmanta server has.
fn endpoints() -> Json {
    let endpoints = (0..100).map(|index| {
        let labels = ["resource.read", "deploy", "parameter.write", "environment.setting.write"];
        let about = json!({
            "auth_label": labels[index % labels.len()],
            "client_types": ["api"],
            "environment_param": "X-Inmanta-tid",
            "read_only": index % labels.len() == 0,
        });
        (format!("POST /api/v2/endpoint{index}/<id>"), about)
    });
    endpoints.collect::<serde_json::Map<_, _>>().into()
}

fn token(roles: &[&str], is_admin: bool) -> Json {
    json!({
        "iss": "https://localhost:8888/",
        "aud": ["https://localhost:8888/"],
        "urn:inmanta:ct": ["api"],
        "sub": "bob",
        "urn:inmanta:roles": { ENVIRONMENT: roles },
        "urn:inmanta:is_admin": is_admin,
    })
}

fn policy(criterion: &mut Criterion) {
    let endpoints = endpoints();
    let policy = Policy::compile(Path::new("inmanta.rego"), DEFAULT_POLICY, &endpoints).unwrap();
    let mut engine = Engine::new();
    engine.add_policy("inmanta.rego".into(), DEFAULT_POLICY.into()).unwrap();
    let data = Value::from(json!({ "endpoints": endpoints }));
    engine.add_data(data.clone()).unwrap();
    let compiled = engine.compile_with_entrypoint(&"data.policy.allow".into()).unwrap();
    let program = Compiler::compile_from_policy(&compiled, &["data.policy.allow"]).unwrap();

    let parameters = json!({ "X-Inmanta-tid": ENVIRONMENT, "id": "7", "limit": 20 });
    for (name, endpoint_id, token, expected) in [
        ("administrator", "POST /api/v2/endpoint1/<id>", token(&[], true), true),
        ("operator", "POST /api/v2/endpoint1/<id>", token(&["operator"], false), true),
        ("denied", "POST /api/v2/endpoint2/<id>", token(&["operator", "noc"], false), false),
    ] {
        let input = PolicyInput {
            endpoint_id,
            parameters: parameters.as_object().unwrap(),
            token: token.as_object().unwrap(),
            issuer: None,
            tenant: None,
        };
        assert_eq!(policy.allows(input), Ok(expected));
        criterion.bench_function(&format!("policy/{name}/countersign"), |bencher| {
            bencher.iter(|| policy.allows(black_box(input)));
        });
        let request = json!({ "endpoint_id": endpoint_id, "parameters": parameters });
        let value = Value::from(json!({ "request": request, "token": token }));
        criterion.bench_function(&format!("policy/{name}/regorus, interpreter"), |bencher| {
            bencher.iter(|| compiled.eval_with_input(black_box(value.clone())).unwrap());
        });
        let mut vm = RegoVM::new_with_policy(compiled.clone());
        vm.load_program(program.clone());
        vm.set_data(data.clone()).unwrap();
        criterion.bench_function(&format!("policy/{name}/regorus, register machine"), |bencher| {
            bencher.iter(|| {
                vm.set_input(black_box(value.clone()));
                vm.execute().unwrap()
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1));
    targets = policy
}
criterion_main!(benches);
