//! The table of operations.

use super::{
    audit_events,
    operation::{AdminAction as Action, AdminAnswer as Answer, AdminOperation, AdminPermission},
    resources::{
        API_KEY, ASSIGNMENT, AUDIT_EVENT, ENVIRONMENT, FETCH_RESULT, ISSUER, LOADED_OPTION,
        NEW_PASSWORD, NEW_ROLE, NEW_TOKEN, NEW_USER, NODE, REVOCATION, REVOCATION_DONE,
        REVOCATION_ENTRY, ROLE, TENANT, TOKEN, TOKEN_CREATED, USER, USER_CHANGE,
        decision::{AUTHORIZATION, ENDPOINT, REQUEST_TO_TEST, TESTED_REQUEST},
        identity::{IDENTITY, IDENTITY_CHANGE, METHOD, METHOD_CHANGE, NEW_IDENTITY, NEW_METHOD},
        inspection::{INSPECTED_TOKEN, TOKEN_TO_INSPECT},
        overview::{OVERVIEW, REFUSED_REQUEST},
    },
    schema::ObjectSchema,
};
use crate::audit::AuditOperation;

const TOKENS: &str = "/v1/admin/environments/{environment}/tokens";
const TOKEN_PATH: &str = "/v1/admin/environments/{environment}/tokens/{jti}";
const USER_PATH: &str = "/v1/admin/users/{username}";
const USER_ROLE: &str = "/v1/admin/users/{username}/roles/{environment}/{role}";
const IDENTITY_PATH: &str = "/v1/admin/identities/{id}";
const METHODS: &str = "/v1/admin/identities/{id}/methods";
const TLS_METHOD: &str = "/v1/admin/identities/{id}/methods/tls-cert-auth";
const STATUS: AdminPermission = AdminPermission::Call("GET", "/api/v1/serverstatus");
const LIST_ENVIRONMENTS: AdminPermission = AdminPermission::Call("GET", "/api/v2/environment");
const LIST_USERS: AdminPermission = AdminPermission::Call("GET", "/api/v2/user");
const LIST_TOKENS: AdminPermission = AdminPermission::Call("GET", "/api/v2/environment_auth");
const LIST_ROLES: AdminPermission = AdminPermission::Call("GET", "/api/v2/role");

const fn read(
    path: &'static str,
    action: Action,
    summary: &'static str,
    permission: AdminPermission,
    answer: Answer,
) -> AdminOperation {
    AdminOperation {
        method: "GET",
        path,
        action,
        summary,
        permission,
        query: &[],
        body: None,
        answer,
        conflicts: false,
        audited: None,
    }
}

/// A call that has a body, and changes nothing.
const fn examine(
    path: &'static str,
    action: Action,
    summary: &'static str,
    body: &'static ObjectSchema,
    answer: &'static ObjectSchema,
) -> AdminOperation {
    let permission = AdminPermission::Administrator;
    let operation = read(path, action, summary, permission, Answer::Value(answer));
    AdminOperation { method: "POST", ..operation.with(body) }
}

const fn change(
    method: &'static str,
    path: &'static str,
    action: Action,
    summary: &'static str,
    audited: AuditOperation,
) -> AdminOperation {
    let permission = AdminPermission::Administrator;
    let operation = read(path, action, summary, permission, Answer::Nothing);
    AdminOperation { method, audited: Some(audited), ..operation }
}

impl AdminOperation {
    const fn permitted_by(self, method: &'static str, path: &'static str) -> Self {
        Self { permission: AdminPermission::Call(method, path), ..self }
    }

    const fn with(self, body: &'static ObjectSchema) -> Self {
        Self { body: Some(body), ..self }
    }

    const fn answers(self, answer: Answer) -> Self {
        Self { answer, ..self }
    }

    const fn may_conflict(self) -> Self {
        Self { conflicts: true, ..self }
    }
}

/// All operations, those with a fixed segment before those with a parameter in its place.
pub(super) const OPERATIONS: &[AdminOperation] = &[
    read(
        "/v1/admin/openapi.json",
        Action::OpenApi,
        "Returns this document.",
        AdminPermission::Open,
        Answer::Document,
    ),
    read(
        "/v1/admin/docs",
        Action::Docs,
        "Returns this documentation as a page for a browser.",
        AdminPermission::Open,
        Answer::Page,
    ),
    read(
        "/v1/admin/overview",
        Action::GetOverview,
        "Returns recent figures: requests, latency, refusals, admission, and the state of issuers.",
        STATUS,
        Answer::Value(&OVERVIEW),
    ),
    read(
        "/v1/admin/refused-requests",
        Action::ListRefusedRequests,
        "Lists the last refused requests, the newest first. Those with the same reason, client, \
         method and path are one item.",
        AdminPermission::Administrator,
        Answer::All(&REFUSED_REQUEST),
    ),
    read(
        "/v1/admin/issuers",
        Action::ListIssuers,
        "Lists the issuers with the state of their keys, in the order of their sections' names.",
        STATUS,
        Answer::List(&ISSUER),
    ),
    change(
        "POST",
        "/v1/admin/issuers/refresh",
        Action::RefreshIssuers,
        "Fetches the keys of all issuers now, and waits up to 10 seconds for the results.",
        AuditOperation::RefreshKeys,
    )
    .answers(Answer::All(&FETCH_RESULT)),
    read(
        "/v1/admin/issuers/{section}",
        Action::GetIssuer,
        "Returns an issuer, by the name of its section.",
        STATUS,
        Answer::One(&ISSUER),
    ),
    change(
        "POST",
        "/v1/admin/issuers/{section}/refresh",
        Action::RefreshIssuer,
        "Fetches the keys of an issuer now, and waits up to 10 seconds for the result.",
        AuditOperation::RefreshKeys,
    )
    .answers(Answer::All(&FETCH_RESULT))
    .may_conflict(),
    read(
        "/v1/admin/environments",
        Action::ListEnvironments,
        "Lists the environments, by id.",
        LIST_ENVIRONMENTS,
        Answer::List(&ENVIRONMENT),
    ),
    read(
        TOKENS,
        Action::ListTokens,
        "Lists the tokens of an environment, the newest first.",
        LIST_TOKENS,
        Answer::List(&TOKEN),
    ),
    change(
        "POST",
        TOKENS,
        Action::CreateToken,
        "Creates a token. It is only in this answer, and is not stored.",
        AuditOperation::CreateToken,
    )
    .permitted_by("POST", "/api/v2/environment_auth")
    .with(&NEW_TOKEN)
    .answers(Answer::Issued(&TOKEN_CREATED))
    .may_conflict(),
    read(
        TOKEN_PATH,
        Action::GetToken,
        "Returns what is known about a token, by its id.",
        LIST_TOKENS,
        Answer::One(&TOKEN),
    ),
    change(
        "DELETE",
        TOKEN_PATH,
        Action::RevokeToken,
        "Revokes a token. It stays in the list as revoked.",
        AuditOperation::RevokeToken,
    )
    .permitted_by("DELETE", "/api/v2/environment_auth/<jti>"),
    examine(
        "/v1/admin/tokens/inspect",
        Action::InspectToken,
        "Makes every check of a token, which is neither stored nor logged.",
        &TOKEN_TO_INSPECT,
        &INSPECTED_TOKEN,
    ),
    read(
        "/v1/admin/revocations",
        Action::ListRevocations,
        "Lists the revocations in the order of their numbers.",
        AdminPermission::Administrator,
        Answer::List(&REVOCATION),
    ),
    change(
        "POST",
        "/v1/admin/revocations",
        Action::AddRevocation,
        "Revokes tokens. It is in force when it is answered, and cannot be undone.",
        AuditOperation::RevokeToken,
    )
    .with(&REVOCATION_ENTRY)
    .answers(Answer::Recorded(&REVOCATION_DONE)),
    read(
        "/v1/admin/users",
        Action::ListUsers,
        "Lists the local users with their roles, by name.",
        LIST_USERS,
        Answer::List(&USER),
    ),
    change(
        "POST",
        "/v1/admin/users",
        Action::AddUser,
        "Adds a local user.",
        AuditOperation::AddUser,
    )
    .permitted_by("POST", "/api/v2/user")
    .with(&NEW_USER)
    .answers(Answer::Created(&USER))
    .may_conflict(),
    read(
        USER_PATH,
        Action::GetUser,
        "Returns a local user with the roles.",
        LIST_USERS,
        Answer::One(&USER),
    ),
    change(
        "PATCH",
        USER_PATH,
        Action::SetAdmin,
        "Grants or withdraws administrator rights. Withdrawing them ends the user's sessions.",
        AuditOperation::SetAdmin,
    )
    .permitted_by("PATCH", "/api/v2/is_admin")
    .with(&USER_CHANGE)
    .answers(Answer::One(&USER)),
    change(
        "DELETE",
        USER_PATH,
        Action::DeleteUser,
        "Deletes a local user, and ends the user's sessions.",
        AuditOperation::DeleteUser,
    )
    .permitted_by("DELETE", "/api/v2/user/<username>"),
    change(
        "PUT",
        "/v1/admin/users/{username}/password",
        Action::SetPassword,
        "Changes a password, and ends the user's sessions. After a change of one's own, the answer \
         has the token of a new session in the header Authorization.",
        AuditOperation::SetPassword,
    )
    .permitted_by("PATCH", "/api/v2/user/<username>/password")
    .with(&NEW_PASSWORD)
    .may_conflict(),
    change(
        "PUT",
        USER_ROLE,
        Action::AssignRole,
        "Assigns a role to a user in an environment, unless it is assigned already.",
        AuditOperation::AssignRole,
    )
    .permitted_by("POST", "/api/v2/role_assignment/<username>"),
    change(
        "DELETE",
        USER_ROLE,
        Action::UnassignRole,
        "Removes a role from a user in an environment, and ends the user's sessions.",
        AuditOperation::UnassignRole,
    )
    .permitted_by("DELETE", "/api/v2/role_assignment/<username>"),
    read(
        "/v1/admin/roles",
        Action::ListRoles,
        "Lists the roles, by name.",
        LIST_ROLES,
        Answer::List(&ROLE),
    ),
    change("POST", "/v1/admin/roles", Action::AddRole, "Adds a role.", AuditOperation::AddRole)
        .permitted_by("POST", "/api/v2/role")
        .with(&NEW_ROLE)
        .answers(Answer::Created(&ROLE))
        .may_conflict(),
    read(
        "/v1/admin/roles/{role}",
        Action::GetRole,
        "Returns a role.",
        LIST_ROLES,
        Answer::One(&ROLE),
    ),
    change(
        "DELETE",
        "/v1/admin/roles/{role}",
        Action::DeleteRole,
        "Deletes a role that is not assigned to any user.",
        AuditOperation::DeleteRole,
    )
    .permitted_by("DELETE", "/api/v2/role")
    .may_conflict(),
    read(
        "/v1/admin/environments/{environment}/assignments",
        Action::ListAssignments,
        "Lists the assignments of roles in an environment, by user and role.",
        LIST_USERS,
        Answer::List(&ASSIGNMENT),
    ),
    read(
        "/v1/admin/identities",
        Action::ListIdentities,
        "Lists the machine identities, in the order of their ids.",
        AdminPermission::Administrator,
        Answer::List(&IDENTITY),
    ),
    change(
        "POST",
        "/v1/admin/identities",
        Action::CreateIdentity,
        "Creates a machine identity. It cannot log in before it has a login method.",
        AuditOperation::CreateIdentity,
    )
    .with(&NEW_IDENTITY)
    .answers(Answer::Created(&IDENTITY))
    .may_conflict(),
    read(
        IDENTITY_PATH,
        Action::GetIdentity,
        "Returns a machine identity.",
        AdminPermission::Administrator,
        Answer::One(&IDENTITY),
    ),
    change(
        "PATCH",
        IDENTITY_PATH,
        Action::ChangeIdentity,
        "Changes a machine identity. A role that it loses ends the tokens that contain it.",
        AuditOperation::ModifyIdentity,
    )
    .with(&IDENTITY_CHANGE)
    .answers(Answer::One(&IDENTITY))
    .may_conflict(),
    change(
        "DELETE",
        IDENTITY_PATH,
        Action::DeleteIdentity,
        "Deletes a machine identity, and revokes its tokens.",
        AuditOperation::DeleteIdentity,
    )
    .may_conflict(),
    read(
        METHODS,
        Action::ListMethods,
        "Lists the login methods of a machine identity, with the terms of its access tokens.",
        AdminPermission::Administrator,
        Answer::All(&METHOD),
    ),
    change(
        "POST",
        METHODS,
        Action::AttachMethod,
        "Attaches a login method by a TLS client certificate to a machine identity.",
        AuditOperation::AttachMethod,
    )
    .with(&NEW_METHOD)
    .answers(Answer::Created(&METHOD))
    .may_conflict(),
    read(
        TLS_METHOD,
        Action::GetTlsMethod,
        "Returns the login method by a TLS client certificate, with the certificate of its \
         authority.",
        AdminPermission::Administrator,
        Answer::One(&METHOD),
    ),
    change(
        "PATCH",
        TLS_METHOD,
        Action::ChangeTlsMethod,
        "Changes the login method by a TLS client certificate.",
        AuditOperation::ModifyMethod,
    )
    .with(&METHOD_CHANGE)
    .answers(Answer::One(&METHOD))
    .may_conflict(),
    change(
        "DELETE",
        TLS_METHOD,
        Action::DetachTlsMethod,
        "Detaches the login method by a TLS client certificate, and revokes its tokens.",
        AuditOperation::DeleteMethod,
    )
    .may_conflict(),
    read(
        "/v1/admin/api-keys",
        Action::ListApiKeys,
        "Lists the API keys of multi-tenancy by name, without their values.",
        AdminPermission::Administrator,
        Answer::List(&API_KEY),
    ),
    read(
        "/v1/admin/tenants",
        Action::ListTenants,
        "Lists the tenants with requests since the start by name, if metrics count them.",
        AdminPermission::Administrator,
        Answer::List(&TENANT),
    ),
    read(
        "/v1/admin/authorization",
        Action::GetAuthorization,
        "Returns what authorizes requests: the listeners, the rules by route, and the policy.",
        AdminPermission::Administrator,
        Answer::One(&AUTHORIZATION),
    ),
    read(
        "/v1/admin/endpoints",
        Action::ListEndpoints,
        "Lists the endpoints that the access policy knows, by id.",
        AdminPermission::Administrator,
        Answer::List(&ENDPOINT),
    ),
    examine(
        "/v1/admin/requests/test",
        Action::TestRequest,
        "Returns what would be decided about a request, and why. Nothing is stored or logged.",
        &REQUEST_TO_TEST,
        &TESTED_REQUEST,
    ),
    AdminOperation {
        query: audit_events::FILTER,
        ..read(
            "/v1/admin/audit-events",
            Action::ListAuditEvents,
            "Lists the events of the audit log, the newest first.",
            AdminPermission::Administrator,
            Answer::List(&AUDIT_EVENT),
        )
    },
    read(
        "/v1/admin/configuration",
        Action::ListConfiguration,
        "Lists the options that are set, without the values of secrets.",
        AdminPermission::Administrator,
        Answer::List(&LOADED_OPTION),
    ),
    read(
        "/v1/admin/servers",
        Action::ListServers,
        "Lists the servers that share the database, and have shown signs of life recently.",
        AdminPermission::Administrator,
        Answer::List(&NODE),
    ),
];
