//! The patterns of `match`: methods and a path, such as `GET|POST /api/orders/*`.

use std::fmt;

use crate::{
    authorization::{
        request_path::{EncodedSlash, canonical},
        spelling::folded,
    },
    base::redacted::quoted,
};

/// A pattern of requests.
#[derive(Clone, Debug)]
pub struct RoutePattern {
    /// The pattern as it is written.
    text: Box<str>,
    pub(super) methods: MethodSet,
    pub(super) segments: Box<[PatternSegment]>,
    pub(super) ending: PathEnding,
}

/// One segment of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PatternSegment {
    /// This text, decoded.
    Literal(Box<str>),
    /// Any one segment.
    Any,
}

/// The end of a pattern, after its segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathEnding {
    /// The end of the path.
    Plain,
    /// A slash at the end of the path.
    Slash,
    /// A slash, and anything.
    Rest,
}

/// A set of methods of [`MethodNames`]. The last bit stands for all other methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MethodSet(u64);

/// The methods that patterns name.
#[derive(Clone, Debug)]
pub(super) struct MethodNames(Vec<Box<str>>);

/// How a pattern covers another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coverage {
    /// It matches all of its paths.
    Exact,
    /// It matches all of its paths, some of them only if letters' case or a trailing slash is
    /// ignored.
    Variant,
}

impl MethodSet {
    const ALL: Self = Self(u64::MAX);
    const OTHERS: Self = Self(1 << 63);

    pub(super) fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl Default for MethodNames {
    fn default() -> Self {
        Self(vec!["GET".into(), "HEAD".into()])
    }
}

impl MethodNames {
    /// Maximum number of names.
    const MAX: usize = 63;
    /// GET and HEAD, which is answered as GET is.
    pub(super) const GET: MethodSet = MethodSet(0b11);

    /// Returns the set of a request's method: as it is written, and if its case is ignored.
    #[inline]
    pub(super) fn of_request(&self, method: &str) -> (MethodSet, MethodSet) {
        if let Some(index) = self.0.iter().position(|name| **name == *method) {
            return (MethodSet(1 << index), MethodSet(1 << index));
        }
        let similar = self.0.iter().position(|name| name.eq_ignore_ascii_case(method));
        let similar = similar.map_or(MethodSet::OTHERS, |index| MethodSet(1 << index));
        (MethodSet::OTHERS, similar.union(MethodSet::OTHERS))
    }

    /// Reads the methods of a pattern, separated by `|`.
    fn read(&mut self, text: &str) -> Result<MethodSet, String> {
        let mut methods = MethodSet(0);
        for name in text.split('|') {
            methods = methods.union(match name {
                "*" => MethodSet::ALL,
                "GET" => Self::GET,
                name => self.index(name)?,
            });
        }
        Ok(methods)
    }

    fn index(&mut self, name: &str) -> Result<MethodSet, String> {
        let is_method = |byte: u8| byte.is_ascii_uppercase() || byte == b'-' || byte == b'_';
        if name.is_empty() || !name.bytes().all(is_method) {
            return Err(format!(
                "{} is not a method: write it in capitals, such as GET, several as GET|POST, \
                 and all as *",
                quoted(name)
            ));
        }
        let index = self.0.iter().position(|one| **one == *name);
        let index = index.unwrap_or_else(|| {
            self.0.push(name.into());
            self.0.len() - 1
        });
        if index >= Self::MAX {
            return Err(format!("the routes name more than {} methods", Self::MAX));
        }
        Ok(MethodSet(1 << index))
    }
}

impl RoutePattern {
    /// Parses methods and a path.
    ///
    /// # Errors
    /// The mistake and its remedy.
    pub(super) fn parse(text: &str, names: &mut MethodNames) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some(methods), Some(path), None) => {
                Self::of_path(format!("{methods} {path}"), path, names.read(methods)?)
            }
            _ => Err("write methods and a path, such as GET /api/orders/*".into()),
        }
    }

    /// Parses a path for requests with GET and HEAD.
    ///
    /// # Errors
    /// The mistake and its remedy.
    pub(super) fn parse_path(path: &str) -> Result<Self, String> {
        Self::of_path(path.into(), path, MethodNames::GET)
    }

    fn of_path(text: String, path: &str, methods: MethodSet) -> Result<Self, String> {
        if !path.starts_with('/') {
            return Err("a path starts with /, such as /api/orders/*".into());
        }
        if path.contains('?') {
            return Err("a pattern has no query: remove it from the ? on".into());
        }
        let decoded = canonical(path, EncodedSlash::Ambiguous).map_err(|reason| {
            format!("requests with such a path are refused as ambiguous: {reason}")
        })?;
        // Without encoded slashes, both have the same segments.
        let (mut written, mut decoded): (Vec<_>, Vec<_>) =
            (path[1..].split('/').collect(), decoded[1..].split('/').collect());
        let ending = match written.last() {
            Some(&"*") => PathEnding::Rest,
            Some(&"") => PathEnding::Slash,
            _ => PathEnding::Plain,
        };
        if ending != PathEnding::Plain {
            written.pop();
            decoded.pop();
        }
        let segments = written.into_iter().zip(decoded);
        let segments = segments.map(|(written, decoded)| PatternSegment::parse(written, decoded));
        let segments = segments.collect::<Result<_, _>>()?;
        Ok(Self { text: text.into(), methods, segments, ending })
    }

    /// Whether all literals are ASCII.
    pub(super) fn is_ascii(&self) -> bool {
        self.segments.iter().all(|segment| match segment {
            PatternSegment::Literal(literal) => literal.is_ascii(),
            PatternSegment::Any => true,
        })
    }

    /// Returns the pattern with folded literals.
    pub(super) fn folded(&self) -> Self {
        let segments = self.segments.iter().map(|segment| match segment {
            PatternSegment::Literal(literal) => PatternSegment::Literal(folded(literal).into()),
            PatternSegment::Any => PatternSegment::Any,
        });
        Self { segments: segments.collect(), ..self.clone() }
    }

    /// Whether this pattern matches all paths of `other`, whatever the methods.
    pub(super) fn covers(&self, other: &Self) -> Option<Coverage> {
        let mut coverage = Coverage::Exact;
        for (index, segment) in self.segments.iter().enumerate() {
            match (segment, other.segments.get(index)?) {
                (PatternSegment::Any, _) => {}
                (PatternSegment::Literal(one), PatternSegment::Literal(other)) => {
                    if !one.eq_ignore_ascii_case(other) {
                        return None;
                    }
                    if one != other {
                        coverage = Coverage::Variant;
                    }
                }
                (PatternSegment::Literal(_), PatternSegment::Any) => return None,
            }
        }
        let has_more = other.segments.len() > self.segments.len();
        match (self.ending, other.ending) {
            (PathEnding::Rest, _) if has_more => Some(coverage),
            _ if has_more => None,
            (PathEnding::Rest, PathEnding::Slash) => Some(coverage),
            (one, other) if one == other => Some(coverage),
            (_, PathEnding::Rest) => None,
            _ => Some(Coverage::Variant),
        }
    }
}

impl PatternSegment {
    fn parse(written: &str, decoded: &str) -> Result<Self, String> {
        let name = [("{", "}"), ("<", ">")].into_iter().find_map(|(open, close)| {
            written.strip_prefix(open).and_then(|rest| rest.strip_suffix(close))
        });
        let special = ['*', '{', '}', '<', '>'];
        match name {
            _ if written == "*" => Ok(Self::Any),
            Some(name) if !name.is_empty() && !name.contains(special) => Ok(Self::Any),
            None if !written.contains(special) => Ok(Self::Literal(decoded.into())),
            _ => Err(format!(
                "{} is not a segment: *, {{name}} and <name> stand for a whole one",
                quoted(written)
            )),
        }
    }
}

impl fmt::Display for RoutePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
