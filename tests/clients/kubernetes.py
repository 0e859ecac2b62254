"""Checks manifests against the schemas of Kubernetes, and prints each as a line of JSON.

Arguments: the files. Custom resources have no schema here: they are only printed. The exit status
is 1 if a manifest does not fit its schema, where unknown members are mistakes, too.
"""

import importlib.util
import json
import pathlib
import sys

import jsonschema_rs
import yaml

VERSION = "v1.37.0-local-strict"
CUSTOM = {"monitoring.coreos.com/v1"}

# The package is found, but not imported: its own program needs further packages.
package = pathlib.Path(importlib.util.find_spec("kubernetes_validate").origin).parent
schemas = package / "kubernetes-json-schema" / VERSION
definitions = json.loads((schemas / "_definitions.json").read_text())
registry = jsonschema_rs.Registry([("file:///api/_definitions.json", definitions)])


def errors_of(manifest):
    group, _, version = manifest["apiVersion"].rpartition("/")
    # The names of files have the first word of a group: networking.k8s.io is networking.
    parts = [manifest["kind"].lower(), group.split(".")[0], version]
    name = "-".join(part for part in parts if part) + ".json"
    schema = json.loads((schemas / name).read_text())
    validator = jsonschema_rs.validator_for(
        schema, registry=registry, base_uri=f"file:///api/{name}"
    )
    return [f"{error.instance_path}: {error.message}" for error in validator.iter_errors(manifest)]


failed = False
for file in sys.argv[1:]:
    for manifest in yaml.safe_load_all(pathlib.Path(file).read_text()):
        if manifest["apiVersion"] not in CUSTOM:
            for error in errors_of(manifest):
                failed = True
                print(f"{file}: {manifest['kind']}: {error}", file=sys.stderr)
        print(json.dumps(manifest))
sys.exit(failed)
