use std::{collections::BTreeSet, path::Path, process::Command};

use countersign_tests::{binary::Sandbox, pages::root};
use serde_json::Value;

/// Path of the signing key in the pods.
const KEY_FILE: &str = "/var/run/secrets/countersign/signing.key";

/// Compares manifests with the schemas of Kubernetes. Returns them, or what does not fit.
fn read(directory: &Path) -> Result<Vec<Value>, String> {
    let mut files: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut python = Command::new(tests.join("clients/.venv/bin/python"));
    let output = python.arg(tests.join("clients/kubernetes.py")).args(files).output();
    let output = output.unwrap_or_else(|error| panic!("{error}: tests/run installs what it needs"));
    if !output.status.success() {
        return Err(String::from_utf8(output.stderr).unwrap());
    }
    let text = String::from_utf8(output.stdout).unwrap();
    Ok(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

fn manifests() -> Vec<Value> {
    read(&root().join("deploy/kubernetes")).unwrap()
}

/// Returns the text at a JSON pointer.
#[track_caller]
fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_else(|| panic!("{pointer} is missing in {value}"))
}

/// Returns the elements of a list, which may be absent.
fn list<'v>(value: &'v Value, pointer: &str) -> impl Iterator<Item = &'v Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// Returns the templates of pods.
fn pods(manifests: &[Value]) -> Vec<&Value> {
    manifests.iter().filter_map(|manifest| manifest.pointer("/spec/template")).collect()
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    list(pod, "/spec/initContainers").chain(list(pod, "/spec/containers"))
}

fn port_names(pod: &Value) -> BTreeSet<&str> {
    containers(pod)
        .flat_map(|container| list(container, "/ports"))
        .map(|port| text(port, "/name"))
        .collect()
}

#[test]
fn manifests_fit_the_schemas_of_kubernetes() {
    let manifests = manifests();
    let kinds: BTreeSet<_> = manifests.iter().map(|manifest| text(manifest, "/kind")).collect();
    let expected = [
        "ConfigMap",
        "DaemonSet",
        "Deployment",
        "HorizontalPodAutoscaler",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
        "ServiceMonitor",
    ];
    assert_eq!(kinds, expected.into());
    // A mistake is found.
    let sandbox = Sandbox::new();
    let shipped = root().join("deploy/kubernetes/sidecar.yaml");
    let mistaken = std::fs::read_to_string(shipped).unwrap().replace("replicas: 2", "replica: 2");
    let file = sandbox.file("mistaken/sidecar.yaml", mistaken);
    let error = read(file.parent().unwrap()).unwrap_err();
    assert!(error.contains("'replica' was unexpected"), "{error}");
}

#[test]
fn pods_have_no_privileges_and_bounds() {
    let manifests = manifests();
    let pods = pods(&manifests);
    assert_eq!(pods.len(), 3);
    for pod in pods {
        let is = |value: &Value, pointer: &str, expected: Value| {
            assert_eq!(value.pointer(pointer), Some(&expected), "{pointer} of {value}");
        };
        is(pod, "/spec/automountServiceAccountToken", false.into());
        is(pod, "/spec/securityContext/runAsNonRoot", true.into());
        is(pod, "/spec/securityContext/seccompProfile/type", "RuntimeDefault".into());
        for container in containers(pod) {
            is(container, "/securityContext/readOnlyRootFilesystem", true.into());
            is(container, "/securityContext/allowPrivilegeEscalation", false.into());
            is(container, "/securityContext/capabilities/drop", vec!["ALL"].into());
            for bound in ["requests/cpu", "requests/memory", "limits/memory"] {
                text(container, &format!("/resources/{bound}"));
            }
        }
    }
}

/// The configuration of a [`Value`] of the kind `ConfigMap`, with the files of a sandbox, and
/// without a provider.
fn configuration(map: &Value, sandbox: &Sandbox) -> String {
    let key = sandbox.file("signing.key", crate::fixture::KEY);
    let shipped = text(map, "/data/countersign.cfg");
    let lines = shipped.lines().map(|line| match line.split_once(" = ") {
        Some(("jwks_uri", _)) => "jwks_uri = http://127.0.0.1:9/keys".to_owned(),
        _ => line.to_owned(),
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    let socket = sandbox.path().display().to_string();
    text.replace(KEY_FILE, key.to_str().unwrap()).replace("/run/countersign", &socket)
}

/// Each form with its configuration: what the probes ask is answered, and each variable is read.
#[test]
fn configuration_of_the_manifests_works() {
    let manifests = manifests();
    let map = |name: &str| {
        let maps = manifests.iter().filter(|manifest| manifest["kind"] == "ConfigMap");
        maps.into_iter().find(|map| text(map, "/metadata/name") == name).unwrap()
    };
    for pod in pods(&manifests) {
        let container = containers(pod).find(|one| one["name"] == "countersign").unwrap();
        let volumes = list(pod, "/spec/volumes");
        let name = volumes.filter_map(|volume| volume.pointer("/configMap/name")?.as_str()).next();
        let sandbox = Sandbox::new();
        let configuration = configuration(map(name.unwrap()), &sandbox);
        let file = sandbox.file("countersign.cfg", &configuration);
        let check = ["config", "check", "--config", file.to_str().unwrap()];
        let checked = sandbox.run(check);
        assert_eq!(checked.code(), 0, "{checked:?}");
        for variable in list(container, "/env") {
            let variables = [(text(variable, "/name").to_owned(), "nonsense")];
            let checked = sandbox.run_with_variables(check, &variables);
            assert_eq!(checked.code(), 2, "{variables:?}: {checked:?}");
        }
        let server = sandbox.serve(&configuration);
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let path = text(container, &format!("/{probe}/httpGet/path"));
            let answer = match text(container, &format!("/{probe}/httpGet/port")) {
                "http" => server.request(&format!("GET {path} HTTP/1.1\r\n")),
                _ => server.operations(path),
            };
            assert_eq!(answer.status, 200, "{probe}: {answer:?}");
        }
    }
}

#[test]
fn names_in_the_manifests_agree() {
    let manifests = manifests();
    let labels = |pod: &Value| text(pod, "/metadata/labels/app.kubernetes.io~1name").to_owned();
    let pod_of = |name: &str| {
        let found = pods(&manifests).into_iter().find(|pod| labels(pod) == name);
        found.unwrap_or_else(|| panic!("no pod is called {name}"))
    };
    let names_of = |kind: &'static str| {
        let of_kind = manifests.iter().filter(move |manifest| manifest["kind"] == kind);
        of_kind.map(|manifest| text(manifest, "/metadata/name")).collect::<BTreeSet<_>>()
    };
    for manifest in &manifests {
        match text(manifest, "/kind") {
            "Service" => {
                let pod = pod_of(text(manifest, "/spec/selector/app.kubernetes.io~1name"));
                for port in list(manifest, "/spec/ports") {
                    assert!(port_names(pod).contains(text(port, "/targetPort")), "{port}");
                }
            }
            "PodDisruptionBudget" | "Deployment" | "DaemonSet" => {
                pod_of(text(manifest, "/spec/selector/matchLabels/app.kubernetes.io~1name"));
            }
            "HorizontalPodAutoscaler" => {
                assert!(
                    names_of("Deployment").contains(text(manifest, "/spec/scaleTargetRef/name"))
                );
            }
            "NetworkPolicy" | "ServiceMonitor" => {
                let expression = manifest
                    .pointer("/spec/podSelector/matchExpressions/0")
                    .or_else(|| manifest.pointer("/spec/selector/matchExpressions/0"));
                let selected: BTreeSet<_> =
                    list(expression.unwrap(), "/values").filter_map(Value::as_str).collect();
                assert_eq!(selected, names_of("Service"));
            }
            _ => {}
        }
    }
    for pod in pods(&manifests) {
        let volumes: BTreeSet<_> =
            list(pod, "/spec/volumes").map(|volume| text(volume, "/name")).collect();
        let mounts = containers(pod).flat_map(|container| list(container, "/volumeMounts"));
        assert_eq!(mounts.map(|mount| text(mount, "/name")).collect::<BTreeSet<_>>(), volumes);
    }
}
