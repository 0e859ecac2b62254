//! The plan of an import: the rows to write, so that the database here has those of the source.
//!
//! The comparison has three sides: the source, the database here, and the values of the last
//! import. A value that changed in the source is taken over if it did not change here. A row that
//! was imported and is missing here was deleted here, and stays deleted.

mod environments;
mod tokens;
mod users;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    hash::Hash,
};

use aws_lc_rs::digest::{SHA256, digest};
use countersign_engine::Revocation;

use super::{
    ImportError, ImportReport, ImportSettings,
    source::{EnvironmentValues, SourceContents},
};
use crate::base::hex::to_hex;

/// What the database here has.
#[derive(Clone, Default)]
pub(super) struct ExistingContents {
    /// Users by name.
    pub users: BTreeMap<String, ExistingUser>,
    pub roles: BTreeSet<String>,
    /// Names of projects, by id.
    pub projects: BTreeMap<String, String>,
    /// Environments by id.
    pub environments: BTreeMap<String, EnvironmentValues>,
    /// Every id that an environment has had.
    pub environment_ids: HashSet<String>,
    /// Username, environment and role.
    pub assignments: HashSet<(String, String, String)>,
    /// Ids of registered tokens, and whether they are revoked.
    pub tokens: HashMap<String, bool>,
    /// Values of earlier imports, by kind and id.
    pub imported: HashMap<(String, String), String>,
    /// Issuers that have signed sessions.
    pub signers: BTreeSet<String>,
}

/// A user that exists here. Not `Debug`: it contains a password hash.
#[derive(Clone)]
pub(super) struct ExistingUser {
    pub password_hash: String,
    pub is_admin: bool,
    /// The id at the source, of an imported user.
    pub source_id: Option<String>,
}

/// What an import writes, in this order.
#[derive(Default)]
pub(super) struct ImportPlan {
    /// Give names free that other rows get.
    pub releases: Vec<ImportUpdate>,
    pub inserts: Vec<ImportInsert>,
    pub updates: Vec<ImportUpdate>,
    pub revocations: Vec<Revocation>,
    pub report: ImportReport,
}

/// Rows to insert into a table.
pub(super) struct ImportInsert {
    pub table: &'static str,
    pub columns: &'static [&'static str],
    /// The clause for rows that exist.
    pub on_conflict: &'static str,
    pub rows: Vec<Vec<ImportValue>>,
}

/// Value of a column.
#[derive(Clone)]
pub(super) enum ImportValue {
    Text(Option<String>),
    Number(Option<i64>),
}

/// A statement with parameters.
pub(super) struct ImportUpdate {
    pub statement: &'static str,
    pub parameters: Vec<ImportValue>,
}

/// Kinds of rows in `countersign_import`.
const USER: &str = "user";
const ROLE: &str = "role";
const PROJECT: &str = "project";
const ENVIRONMENT: &str = "environment";
const ASSIGNMENT: &str = "assignment";
/// A token that was revoked.
const TOKEN: &str = "token";

/// Limit of a name, in characters, as in the API.
const MAX_NAME_CHARS: usize = 255;

/// Reasons that several kinds have.
const DELETED_HERE: &str = "skipped, because it was deleted here";
const INVALID_NAME: &str = "skipped, because its name is empty or has more than 255 characters";
const DIFFERS: &str = "differs from the source, and is kept as it is here";

/// What happens to an object of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ImportAction {
    /// It is here.
    Keep,
    /// It is added.
    Add,
    /// Its values are taken over.
    Change,
    /// It is not written, for this reason.
    Skip(&'static str),
}

impl ImportAction {
    fn writes(self) -> bool {
        matches!(self, Self::Add | Self::Change)
    }

    /// Returns this action, unless it writes and there is a reason not to.
    fn unless(self, refusal: Option<&'static str>) -> Self {
        refusal.filter(|_| self.writes()).map_or(self, Self::Skip)
    }
}

/// Compares the values of an object at the last import, here, and in the source.
fn compare(base: Option<&str>, here: Option<&str>, source: &str) -> ImportAction {
    match (base, here) {
        (None, None) => ImportAction::Add,
        (Some(_), None) => ImportAction::Skip(DELETED_HERE),
        (_, Some(here)) if here == source => ImportAction::Keep,
        (Some(base), Some(here)) if base == here => ImportAction::Change,
        (Some(base), Some(_)) if base == source => ImportAction::Keep,
        _ => ImportAction::Skip(DIFFERS),
    }
}

/// Compares a source with the database here.
///
/// # Errors
/// The registry of the source has tokens, and the configuration has no signing section.
pub(super) fn plan(
    source: &SourceContents,
    existing: ExistingContents,
    settings: &ImportSettings,
) -> Result<ImportPlan, ImportError> {
    let mut planner = ImportPlanner {
        settings,
        existing,
        usernames: HashMap::new(),
        rows: BTreeMap::new(),
        recorded: BTreeMap::new(),
        plan: ImportPlan::default(),
    };
    planner.plan_users(&source.users);
    planner.plan_roles(&source.roles);
    planner.plan_projects(&source.projects);
    planner.plan_environments(&source.environments);
    planner.plan_assignments(source);
    planner.plan_tokens(source.tokens.as_deref().unwrap_or_default())?;
    Ok(planner.finish())
}

/// State of a comparison. Rows of the plan are added to `existing`, so that an inconsistent source
/// cannot add two of the same name.
struct ImportPlanner<'s> {
    settings: &'s ImportSettings,
    existing: ExistingContents,
    /// Names of the imported users that exist here, by their ids at the source.
    usernames: HashMap<String, String>,
    rows: BTreeMap<InsertOrder, Vec<Vec<ImportValue>>>,
    /// New values of `countersign_import`, by kind and id.
    recorded: BTreeMap<(&'static str, String), String>,
    plan: ImportPlan,
}

/// Tables with new rows, in the order in which they refer to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum InsertOrder {
    Users,
    Roles,
    Projects,
    EnvironmentIds,
    Environments,
    Assignments,
    Tokens,
}

impl InsertOrder {
    const fn table(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Users => (
                "countersign_user",
                &["username", "password_hash", "auth_method", "is_admin", "source_id"],
            ),
            Self::Roles => ("countersign_role", &["name"]),
            Self::Projects => ("countersign_project", &["id", "name"]),
            Self::EnvironmentIds => ("countersign_environment_id", &["id"]),
            Self::Environments => (
                "countersign_environment",
                &["id", "name", "project_id", "repo_url", "repo_branch", "description", "icon"],
            ),
            Self::Assignments => {
                ("countersign_role_assignment", &["username", "environment", "role"])
            }
            Self::Tokens => (
                "countersign_token",
                &[
                    "jti",
                    "issuer",
                    "created_by",
                    "client_types",
                    "environment",
                    "issued_at",
                    "expires_at",
                    "revoked_at",
                    "last_used",
                ],
            ),
        }
    }
}

impl ImportValue {
    fn text(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }

    fn flag(is_set: bool) -> Self {
        Self::Number(Some(is_set.into()))
    }
}

impl ImportPlanner<'_> {
    /// Returns the values that an earlier import recorded.
    fn imported(&self, kind: &str, id: &str) -> Option<String> {
        self.existing.imported.get(&(kind.to_owned(), id.to_owned())).cloned()
    }

    /// Records the values of this import, unless they are recorded already.
    fn record(&mut self, kind: &'static str, id: &str, values: &str) {
        if self.imported(kind, id).as_deref() != Some(values) {
            self.recorded.insert((kind, id.to_owned()), values.to_owned());
        }
    }

    fn insert(&mut self, table: InsertOrder, row: Vec<ImportValue>) {
        self.rows.entry(table).or_default().push(row);
    }

    fn update(&mut self, statement: &'static str, parameters: Vec<ImportValue>) {
        self.plan.updates.push(ImportUpdate { statement, parameters });
    }

    /// Plans to give the name of a row free, which gets another one.
    fn release(&mut self, statement: &'static str, id: &str) {
        let parameters = vec![ImportValue::text(id)];
        self.plan.releases.push(ImportUpdate { statement, parameters });
    }

    fn finish(mut self) -> ImportPlan {
        for (order, rows) in self.rows {
            let (table, columns) = order.table();
            self.plan.inserts.push(ImportInsert { table, columns, on_conflict: "", rows });
        }
        let row = |((kind, id), values): ((&str, String), String)| {
            [kind, &id, &values].map(ImportValue::text).into()
        };
        self.plan.inserts.push(ImportInsert {
            table: "countersign_import",
            columns: &["kind", "id", "imported"],
            on_conflict: "ON CONFLICT (kind, id) DO UPDATE SET imported = excluded.imported",
            rows: self.recorded.into_iter().map(row).collect(),
        });
        self.plan
    }
}

/// Returns the objects that cannot get their new names, because an object that keeps its name has
/// it. Names may be passed on, and swapped. `held` has the names here and `wanted` those that
/// objects would get, by their ids.
fn without_a_free_name<N: Clone + Eq + Hash>(
    held: &HashMap<String, N>,
    wanted: &HashMap<String, N>,
) -> HashSet<String> {
    let mut refused = HashSet::new();
    loop {
        let stays = |id: &String| !wanted.contains_key(id) || refused.contains(id);
        let kept: HashSet<_> =
            held.iter().filter(|(id, _)| stays(id)).map(|(_, name)| name.clone()).collect();
        let before = refused.len();
        let is_taken = |id: &String, name: &N| held.get(id) != Some(name) && kept.contains(name);
        refused.extend(
            wanted.iter().filter(|(id, name)| is_taken(id, name)).map(|(id, _)| id.clone()),
        );
        if refused.len() == before {
            return refused;
        }
    }
}

/// Returns a digest of values, to recognize whether they changed. It reveals no password hash.
fn digest_of(values: &[&str]) -> String {
    // A list of texts always serializes.
    to_hex(digest(&SHA256, &serde_json::to_vec(values).unwrap_or_default()).as_ref())
}

fn is_valid_name(name: &str) -> bool {
    !name.is_empty() && name.chars().nth(MAX_NAME_CHARS).is_none()
}
