//! The path of a claim, which may be a member of another claim.

use crate::token::{ClaimNodes, Members, Value};

/// The path of a claim in a payload.
///
/// A text names the claim with exactly this name, if a token has it. Otherwise it is a path of
/// member names: separated by dots (`user.name`), or a JSON Pointer (RFC 6901), which also selects
/// an element of a list by its index (`/emails/0`). A claim named by a URI, such as
/// `https://idp.example/roles`, is thus found by its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClaimPath {
    text: Box<str>,
    /// The names to follow; empty if the path can only be a name.
    steps: Box<[Box<str>]>,
    form: PathForm,
}

/// The form in which a path is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum PathForm {
    /// Names separated by dots, or one name.
    Dotted,
    /// A JSON Pointer.
    Pointer,
    /// Exact names: the text is not the name of a claim.
    Names,
}

impl From<&str> for ClaimPath {
    fn from(text: &str) -> Self {
        let pointer = text.strip_prefix('/');
        let steps: Vec<Box<str>> = match pointer {
            Some(pointer) => pointer.split('/').map(unescaped).collect(),
            None if text.contains('.') => text.split('.').map(Box::from).collect(),
            None => Vec::new(),
        };
        let form = if pointer.is_some() { PathForm::Pointer } else { PathForm::Dotted };
        Self { text: text.into(), steps: steps.into(), form }
    }
}

impl ClaimPath {
    /// The path of the member `member` of the claim `name`, or of the claim itself. Both names are
    /// taken literally: no character in them separates names.
    #[must_use]
    pub fn of_names(name: &str, member: Option<&str>) -> Self {
        let steps: Box<[Box<str>]> = [name].into_iter().chain(member).map(Box::from).collect();
        let escaped = steps.iter().map(|step| step.replace('~', "~0").replace('/', "~1"));
        let text = escaped.fold(String::new(), |text, step| text + "/" + &step);
        Self { text: text.into(), steps, form: PathForm::Names }
    }

    /// The path as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the path is the claim `name`, or leads into it.
    #[must_use]
    pub fn starts_at(&self, name: &str) -> bool {
        (*self.text == *name && self.form != PathForm::Names)
            || self.steps.first().is_some_and(|step| **step == *name)
    }

    /// Returns the claim at this path, of any type.
    pub(crate) fn find<'d, 'b>(&self, claims: &ClaimNodes<'d, 'b>) -> Option<Value<'d, 'b>> {
        let mut first_step = None;
        for (name, value) in claims.all() {
            if *name == *self.text && self.form != PathForm::Names {
                return Some(value);
            }
            if self.steps.first().is_some_and(|step| **step == *name) {
                first_step = Some(value);
            }
        }
        self.steps.iter().skip(1).try_fold(first_step?, |value, step| self.follow(value, step))
    }

    fn follow<'d, 'b>(&self, value: Value<'d, 'b>, step: &str) -> Option<Value<'d, 'b>> {
        if let Some(members) = value.members() {
            return Members::get(members, step);
        }
        // A JSON Pointer has no leading zeros in an index (RFC 6901 section 4).
        let is_index =
            self.form == PathForm::Pointer && (step == "0" || !step.starts_with(['0', '+']));
        value.elements()?.nth(step.parse().ok().filter(|_| is_index)?)
    }
}

/// Decodes one reference token of a JSON Pointer (RFC 6901 section 4).
fn unescaped(token: &str) -> Box<str> {
    token.replace("~1", "/").replace("~0", "~").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::JsonBuffers;

    const CLAIMS: &str = r#"{
        "sub": "bob",
        "user": {"name": "alice", "a.b": "dotted", "x/y": "slash", "m~n": "tilde"},
        "user.email": "exact",
        "/user/id": "exact too",
        "https://idp.example/roles": ["admin", "ops"],
        "emails": [{"value": "first"}, {"value": "second"}]
    }"#;

    fn find(path: &str) -> Option<String> {
        let mut buffers = JsonBuffers::with_capacity(512);
        let document = buffers.parse(CLAIMS.as_bytes()).unwrap();
        let value = ClaimPath::from(path).find(&ClaimNodes::find(&document))?;
        Some(value.as_str().unwrap_or("of another type").to_owned())
    }

    #[test]
    fn claim_is_found_by_its_exact_name_first() {
        assert_eq!(find("sub").as_deref(), Some("bob"));
        assert_eq!(find("user.email").as_deref(), Some("exact"));
        assert_eq!(find("/user/id").as_deref(), Some("exact too"));
        assert_eq!(find("https://idp.example/roles").as_deref(), Some("of another type"));
    }

    #[test]
    fn literal_names_of_a_path_are_not_split() {
        let find = |name: &str, member| {
            let mut buffers = JsonBuffers::with_capacity(512);
            let document = buffers.parse(CLAIMS.as_bytes()).unwrap();
            let value = ClaimPath::of_names(name, member).find(&ClaimNodes::find(&document))?;
            Some(value.as_str().unwrap_or("of another type").to_owned())
        };
        assert_eq!(find("user", Some("name")).as_deref(), Some("alice"));
        assert_eq!(find("user", Some("a.b")).as_deref(), Some("dotted"));
        assert_eq!(find("user.email", None).as_deref(), Some("exact"));
        assert_eq!(find("https://idp.example/roles", None).as_deref(), Some("of another type"));
        for (name, member) in [
            ("user.name", None),
            ("/user/name", None),
            ("user", Some("id")),
            ("emails", Some("0")),
            ("User", Some("name")),
            ("sub", Some("")),
        ] {
            assert_eq!(find(name, member), None, "{name} {member:?}");
        }
    }

    #[test]
    fn claim_is_found_by_path() {
        assert_eq!(find("user.name").as_deref(), Some("alice"));
        assert_eq!(find("/user/name").as_deref(), Some("alice"));
        assert_eq!(find("/user/a.b").as_deref(), Some("dotted"));
        assert_eq!(find("/user/x~1y").as_deref(), Some("slash"));
        assert_eq!(find("/user/m~0n").as_deref(), Some("tilde"));
        assert_eq!(find("/emails/1/value").as_deref(), Some("second"));
        assert_eq!(find("/sub").as_deref(), Some("bob"));
    }

    #[test]
    fn absent_path_finds_no_claim() {
        for path in [
            "",
            ".",
            "/",
            "name",
            "user.",
            ".user",
            "user.name.x",
            "user.missing",
            "sub.0",
            "emails.0",
            "/emails/2",
            "/emails/01",
            "/emails/+1",
            "/emails/-",
            "/user",
            "user/name",
        ] {
            assert_eq!(find(path), (path == "/user").then(|| "of another type".into()), "{path}");
        }
    }
}
