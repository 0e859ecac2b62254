# Tests of the default policy. Run them with: countersign policy test server/policies
package policy_test

import data.policy

here := "11111111-1111-1111-1111-111111111111"

elsewhere := "22222222-2222-2222-2222-222222222222"

# The endpoints that the tests are about.
endpoints := {
	"GET /api/v2/user": global("role-assignment.read", true),
	"GET /api/v2/support": global("support.support-archive.read", true),
	"PUT /api/v2/project": global("project.create", false),
	"PUT /api/v1/file/<id>": global("file.write", false),
	"PATCH /api/v2/user/<username>/password": global("user.change-password", false),
	"GET /api/v2/resource": local("resource.read", "tid", true),
	"POST /api/v1/deploy": local("deploy", "tid", false),
	"POST /api/v1/notify/<id>": local("compiler.execute", "id", false),
	"POST /api/v1/services": local("lsm.instance.write", "tid", false),
	"POST /api/v2/settings": local("environment.setting.write", "tid", false),
	"POST /api/v2/environment_auth": local("token", "tid", false),
	"PUT /api/v2/environment": local("environment.create", "tid", false),
}

global(label, read_only) := {
	"auth_label": label,
	"client_types": ["api"],
	"environment_param": null,
	"read_only": read_only,
}

local(label, environment, read_only) := {
	"auth_label": label,
	"client_types": ["api"],
	"environment_param": environment,
	"read_only": read_only,
}

# The input of a call in the environment `here`.
call(endpoint_id, parameters, token) := {
	"request": {
		"endpoint_id": endpoint_id,
		"parameters": object.union({"tid": here, "id": here}, parameters),
	},
	"token": token,
}

user(roles) := {"sub": "bob", "urn:inmanta:roles": {here: roles}}

allowed(roles, endpoint_id) if {
	policy.allow with input as call(endpoint_id, {}, user(roles)) with data.endpoints as endpoints
}

default is_allowed(_, _) := false

is_allowed(roles, endpoint_id) if allowed(roles, endpoint_id)

test_administrator_makes_every_call if {
	token := {"urn:inmanta:is_admin": true}
	policy.allow with input as call("GET /unknown", {}, token) with data.endpoints as endpoints
}

test_administrator_is_not_a_text if {
	token := {"urn:inmanta:is_admin": "true"}
	not policy.allow with input as call("PUT /api/v2/project", {}, token) with data.endpoints as endpoints
}

test_every_user_reads_outside_environments if allowed([], "GET /api/v2/user")

test_support_archive_is_for_administrators if not allowed(policy.roles, "GET /api/v2/support")

test_every_user_uploads_files if allowed([], "PUT /api/v1/file/<id>")

test_own_password if {
	own := call("PATCH /api/v2/user/<username>/password", {"username": "bob"}, user([]))
	policy.allow with input as own with data.endpoints as endpoints
	foreign := object.union(own, {"issuer": {"name": "auth_jwt_idp"}})
	not policy.allow with input as foreign with data.endpoints as endpoints
	other := call("PATCH /api/v2/user/<username>/password", {"username": "alice"}, user([]))
	not policy.allow with input as other with data.endpoints as endpoints
}

test_nothing_without_a_role if not allowed([], "GET /api/v2/resource")

test_nothing_in_another_environment if {
	token := {"urn:inmanta:roles": {elsewhere: policy.roles}}
	not policy.allow with input as call("GET /api/v2/resource", {}, token) with data.endpoints as endpoints
}

test_roles_are_a_list if {
	token := {"urn:inmanta:roles": {here: "noc"}}
	not policy.allow with input as call("GET /api/v2/resource", {}, token) with data.endpoints as endpoints
}

# The calls that each role adds to those of the role before it.
added := {
	"read-only": "GET /api/v2/resource",
	"noc": "POST /api/v1/deploy",
	"operator": "POST /api/v1/services",
	"environment-admin": "POST /api/v2/settings",
	"environment-expert-admin": "POST /api/v2/environment_auth",
}

test_each_role_adds_to_those_before_it if {
	every index, role in policy.roles {
		every other, endpoint in [added[one] | some one in policy.roles] {
			is_allowed([role], endpoint) == (other <= index)
		}
	}
}

test_noc_compiles_without_update if {
	keep := call("POST /api/v1/notify/<id>", {"update": false}, user(["noc"]))
	policy.allow with input as keep with data.endpoints as endpoints
	update := call("POST /api/v1/notify/<id>", {"update": true}, user(["noc"]))
	not policy.allow with input as update with data.endpoints as endpoints
}

test_experts_create_no_environments if {
	not allowed(["environment-expert-admin"], "PUT /api/v2/environment")
}
