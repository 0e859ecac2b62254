# The access policy of an Inmanta server: roles of users in environments, and administrators.
#
# Tokens carry the roles of their user by environment in `urn:inmanta:roles`, and administrators
# have `urn:inmanta:is_admin`. Everything that no rule allows is denied.
package policy

# The roles that the server creates when it starts.
roles := ["read-only", "noc", "operator", "environment-admin", "environment-expert-admin"]

# The properties of the endpoint that is called. Undefined for an unknown endpoint.
endpoint := data.endpoints[input.request.endpoint_id]

# The environment that the call concerns. Undefined for an endpoint outside environments.
environment := input.request.parameters[endpoint.environment_param]

default allow := false

# Administrators may make every call.
allow if input.token["urn:inmanta:is_admin"] == true

# Every user may read what is outside environments, except for support archives.
allow if {
	endpoint.read_only == true
	endpoint.environment_param == null
	endpoint.auth_label != "support.support-archive.read"
}

# Every user may upload files.
allow if input.request.endpoint_id in {"PUT /api/v1/file/<id>", "PUT /api/v1/file/{id}"}

# Every user may change their own password. `input.issuer` describes an issuer other than this
# server, which may have another user of the same name.
allow if {
	input.request.endpoint_id in {
		"PATCH /api/v2/user/<username>/password",
		"PATCH /api/v2/user/{username}/password",
	}
	not input.issuer
	is_string(input.token.sub)
	input.token.sub == input.request.parameters.username
}

# A role allows the calls with the labels of its own and of the roles that it includes.
allow if {
	some role in environment_roles
	some included in includes[role]
	endpoint.auth_label in labels[included]
}

# Network operators may have a model compiled, as long as its sources stay as they are.
allow if {
	some role in environment_roles
	"noc" in includes[role]
	input.request.endpoint_id in {
		"GET /api/v1/notify/<id>",
		"GET /api/v1/notify/{id}",
		"POST /api/v1/notify/<id>",
		"POST /api/v1/notify/{id}",
	}
	object.get(input.request.parameters, "update", false) == false
}

# Expert administrators may make every call of the API that concerns their environment.
allow if {
	"environment-expert-admin" in environment_roles
	"api" in endpoint.client_types
	endpoint.auth_label != "environment.create"
}

# The roles of the user in the environment of the call.
environment_roles := assigned if {
	assigned := input.token["urn:inmanta:roles"][environment]
	is_array(assigned)
}

# Each role, with the roles whose labels it has.
includes := {
	"read-only": {"read-only"},
	"noc": {"read-only", "noc"},
	"operator": {"read-only", "noc", "operator"},
	"environment-admin": {"read-only", "noc", "operator", "environment-admin"},
	"environment-expert-admin": {"read-only", "noc", "operator", "environment-admin"},
}

# The labels that a role adds.
labels := {
	"read-only": {
		"agent.read",
		"compile-report.read",
		"compiler.status.read",
		"desired-state.read",
		"discovered-resources.read",
		"docs.read",
		"dryrun.read",
		"environment.read",
		"environment.setting.read",
		"fact.read",
		"file.read",
		"graphql.read",
		"lsm.callback.read",
		"lsm.catalog.read",
		"lsm.docs.read",
		"lsm.instance.read",
		"lsm.order.read",
		"metrics.read",
		"notification.read",
		"parameter.read",
		"pip-config.read",
		"project.read",
		"resource.read",
		"status.read",
	},
	"noc": {
		"agent.pause-resume",
		"deploy",
		"dryrun.write",
		"environment.halt-resume",
		"notification.write",
	},
	"operator": {
		"lsm.instance.write",
		"lsm.order.write",
	},
	"environment-admin": {
		"compiler.execute",
		"desired-state.write",
		"environment.modify",
		"environment.setting.write",
		"lsm.callback.write",
		"lsm.catalog.write",
		"lsm.instance.migrate",
	},
}
