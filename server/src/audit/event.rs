//! Events of the audit log.

use countersign_engine::UnixTime;
use rustix::process::getuid;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    accounts::session::Session,
    base::{
        clock,
        printable::is_visible,
        redacted::{is_key_text, is_token_text, not_shown, shown},
    },
    revocation::record::RevocationRecord,
};

/// Maximum length of a text in an event, in characters.
const MAX_CHARS: usize = 255;

/// One event, or several equal ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    /// Time of the first one.
    pub at: UnixTime,
    /// What was done, or refused.
    pub operation: AuditOperation,
    /// The outcome.
    pub outcome: AuditOutcome,
    /// Why it was refused or failed: a reject code, or a word.
    pub reason: Option<String>,
    /// Further facts about the operation, such as the client types of a token.
    pub detail: Option<String>,
    /// The caller, if it was authenticated.
    pub caller: AuditCaller,
    /// Where it came from.
    pub origin: AuditOrigin,
    /// What it was applied to.
    pub target: AuditTarget,
    /// Number of equal events.
    pub count: u64,
}

/// The caller of an operation, from its verified token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AuditCaller {
    /// Name of the user, or of a client in `[api_clients]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Issuer of the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Id of the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// Client types of the token, comma-separated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_types: Option<String>,
}

/// Where an operation came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AuditOrigin {
    /// Address of the client, as trusted proxies pass it on; or the user of a local command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Peer of the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
}

/// What an operation is applied to. None of the members is a secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AuditTarget {
    /// A username, or the id of a machine identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// A role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Id of a project, or the name of a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Id of an environment, or the name of a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Id of a token, never the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// Outcome of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditOutcome {
    /// It began. Only stored while it lasts, and after a crash or with a database that failed.
    Begun,
    /// It was done.
    Done,
    /// The caller may not do it, or is not authenticated.
    Refused,
    /// It could not be done.
    Failed,
}

impl AuditOutcome {
    /// All outcomes.
    pub const ALL: [Self; 4] = [Self::Begun, Self::Done, Self::Refused, Self::Failed];

    /// Returns its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

macro_rules! operations {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// An operation that is recorded. Names are stored: never change one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum AuditOperation {
            $($(#[$doc])* $variant,)+
        }

        impl AuditOperation {
            /// All operations.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Returns its name: the kind of its target, and a verb.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

operations! {
    /// A login with a password, or a sign-in to the console with an OpenID provider.
    Login = "login",
    /// A session, or all of a user, is ended by the user or the OpenID provider.
    Logout = "logout",
    /// A user is added.
    AddUser = "user.add",
    /// A user is deleted.
    DeleteUser = "user.delete",
    /// A password is changed.
    SetPassword = "user.password",
    /// Administrator rights are granted or withdrawn.
    SetAdmin = "user.admin",
    /// A role is added.
    AddRole = "role.add",
    /// A role is deleted.
    DeleteRole = "role.delete",
    /// A role is assigned.
    AssignRole = "role.assign",
    /// A role assignment is removed.
    UnassignRole = "role.unassign",
    /// A token is issued.
    CreateToken = "token.create",
    /// Tokens are revoked.
    RevokeToken = "token.revoke",
    /// Keys are fetched on request.
    RefreshKeys = "keys.refresh",
    /// A project is added.
    CreateProject = "project.add",
    /// A project is renamed.
    ModifyProject = "project.modify",
    /// A project is deleted.
    DeleteProject = "project.delete",
    /// An environment is added.
    CreateEnvironment = "environment.add",
    /// An environment is changed.
    ModifyEnvironment = "environment.modify",
    /// An environment is deleted.
    DeleteEnvironment = "environment.delete",
    /// A machine identity logs in.
    IdentityLogin = "identity.login",
    /// An access token of a machine identity is renewed.
    IdentityRenewal = "identity.renew",
    /// A machine identity revokes an access token of its own.
    RevokeIdentityToken = "identity.revoke",
    /// An access token of a machine identity is used. It is recorded if the address of the client
    /// is not trusted.
    UseIdentityToken = "identity.use",
    /// A machine identity is added.
    CreateIdentity = "identity.add",
    /// A machine identity is changed.
    ModifyIdentity = "identity.modify",
    /// A machine identity is deleted.
    DeleteIdentity = "identity.delete",
    /// A login method is attached to a machine identity.
    AttachMethod = "identity.method.add",
    /// A login method is changed.
    ModifyMethod = "identity.method.modify",
    /// A login method is deleted.
    DeleteMethod = "identity.method.delete",
    /// A client secret of a machine identity is added.
    AddClientSecret = "identity.secret.add",
    /// A client secret is revoked.
    RevokeClientSecret = "identity.secret.revoke",
    /// Damaged revocations are repaired.
    RepairRevocations = "revocations.repair",
    /// The next signing key is put in force.
    RotateSigningKey = "signing_key.rotate",
    /// A backup of the databases is written.
    BackUpDatabase = "database.backup",
    /// A backup is restored.
    RestoreDatabase = "database.restore",
    /// The contents of another server are imported.
    Import = "database.import",
    /// A changed configuration is applied.
    Reload = "configuration.reload",
    /// Further refusals, which are only counted.
    Omitted = "omitted",
}

impl AuditOperation {
    /// Operations that a machine identity may do without any right, as often as it likes.
    pub(super) const BY_IDENTITIES: [Self; 3] =
        [Self::IdentityLogin, Self::IdentityRenewal, Self::RevokeIdentityToken];

    pub(super) fn is_by_identity(self) -> bool {
        Self::BY_IDENTITIES.contains(&self)
    }
}

impl AuditEvent {
    /// Creates an event that begins.
    #[must_use]
    pub fn new(operation: AuditOperation, origin: AuditOrigin, at: UnixTime) -> Self {
        Self {
            at,
            operation,
            outcome: AuditOutcome::Begun,
            reason: None,
            detail: None,
            caller: AuditCaller::default(),
            origin,
            target: AuditTarget::default(),
            count: 1,
        }
    }

    /// Whether two events differ only in their time and count.
    #[must_use]
    pub fn equals(&self, other: &Self) -> bool {
        self.operation == other.operation
            && self.outcome == other.outcome
            && self.reason == other.reason
            && self.detail == other.detail
            && self.caller == other.caller
            && self.origin == other.origin
            && self.target == other.target
    }

    /// Returns the event without what may be a secret, and with texts that every database can
    /// store. A caller may give a token or a key in place of a name or an id, and an issuer chooses
    /// the claims.
    #[must_use]
    pub fn sealed(mut self) -> Self {
        let AuditTarget { user, role, project, environment, token } = &mut self.target;
        let names = [&mut *user, &mut *role, &mut *project, &mut *environment];
        for name in names.into_iter().flatten() {
            if is_token_text(name) || is_key_text(name) {
                *name = not_shown(name);
            }
        }
        if let Some(id) = token.as_mut().filter(|id| Uuid::parse_str(id).is_err()) {
            *id = shown(id).into_owned();
        }
        let AuditCaller { user: caller, issuer, jti, client_types } = &mut self.caller;
        let (caller, target) =
            ([caller, issuer, jti, client_types], [user, role, project, environment, token]);
        let facts = [&mut self.reason, &mut self.detail];
        for text in caller.into_iter().chain(target).chain(facts).flatten() {
            text.retain(|character| character != '\0');
            if let Some((end, _)) = text.char_indices().nth(MAX_CHARS) {
                text.truncate(end);
            }
        }
        self
    }

    /// Returns the target in JSON. `identity` is the id of a machine identity, which may be the name
    /// of a user, too.
    #[must_use]
    pub fn target_json(&self) -> Value {
        let mut target = serde_json::to_value(&self.target).unwrap_or_default();
        if self.concerns_identity()
            && let Some(members) = target.as_object_mut()
            && let Some(id) = members.remove("user")
        {
            members.insert("identity".into(), id);
        }
        target
    }

    /// Whether the target is a machine identity: by the operation, or as a member of a project,
    /// which users are not.
    fn concerns_identity(&self) -> bool {
        self.operation.name().starts_with("identity.")
            || (matches!(self.operation, AuditOperation::AssignRole | AuditOperation::UnassignRole)
                && self.target.project.is_some())
    }

    /// Returns the event as a line of JSON, without a line feed. Characters that could change the
    /// output on a terminal are escaped.
    #[must_use]
    pub fn json(&self) -> String {
        let text = serde_json::to_string(&JsonEvent {
            time: clock::rfc3339(self.at),
            operation: self.operation.name(),
            outcome: self.outcome.name(),
            reason: self.reason.as_deref(),
            detail: self.detail.as_deref(),
            by: &self.caller,
            from: &self.origin,
            target: self.target_json(),
            count: self.count,
        })
        .unwrap_or_default();
        let mut line = String::with_capacity(text.len());
        for character in text.chars() {
            if character.is_ascii() || is_visible(character) {
                line.push(character);
                continue;
            }
            for unit in character.encode_utf16(&mut [0; 2]) {
                line.push_str(&format!("\\u{unit:04x}"));
            }
        }
        line
    }
}

/// Form of an event in JSON.
#[derive(Serialize)]
struct JsonEvent<'e> {
    time: Option<String>,
    operation: &'static str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'e str>,
    by: &'e AuditCaller,
    from: &'e AuditOrigin,
    target: Value,
    count: u64,
}

impl AuditCaller {
    /// Returns the holder of a session.
    #[must_use]
    pub fn of(session: &Session) -> Self {
        let claim = |name| session.claim(name).and_then(|claim| claim.as_str()).map(str::to_owned);
        Self {
            user: session.username().map(str::to_owned),
            issuer: claim("iss"),
            jti: claim("jti"),
            client_types: Some(session.client_types().join(",")),
        }
    }
}

impl From<&RevocationRecord> for AuditTarget {
    fn from(record: &RevocationRecord) -> Self {
        Self {
            user: record.subject.clone(),
            environment: record.environment.clone(),
            token: record.jti.clone(),
            ..Self::default()
        }
    }
}

impl AuditOrigin {
    /// Returns the origin of a command on the server's machine.
    #[must_use]
    pub fn command() -> Self {
        Self { client: Some(format!("uid {}", getuid().as_raw())), peer: None }
    }
}
