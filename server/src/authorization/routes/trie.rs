//! The patterns of all rules as a trie of path segments.
//!
//! A node is the start of some patterns. It is visited at most once for a request, because it is
//! reached in one way. Literals are found by a hash that ignores letters' case, so that one walk
//! finds the rule that matches, and an earlier rule that only seems not to.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasherDefault, Hasher},
    ops::Range,
};

use super::pattern::{MethodNames, MethodSet, PathEnding, PatternSegment, RoutePattern};

/// The patterns of numbered rules.
#[derive(Debug)]
pub(super) struct RouteTrie {
    nodes: Vec<TrieNode>,
    /// The literals that lead to another node, in the order of their [`key`].
    edges: Vec<TrieEdge>,
    by_key: HashMap<u64, Range<usize>, BuildHasherDefault<KeyHasher>>,
    names: MethodNames,
}

/// The start of some patterns.
#[derive(Debug, Default)]
struct TrieNode {
    /// The smallest rule of a pattern that starts here.
    first: usize,
    /// The node after any one segment.
    any: Option<usize>,
    has_literals: bool,
    /// The patterns that end here, by their ending.
    plain: Box<[PatternEnd]>,
    slash: Box<[PatternEnd]>,
    rest: Box<[PatternEnd]>,
}

/// The end of a pattern: its rule and methods, in the order of the rules.
#[derive(Clone, Copy, Debug)]
struct PatternEnd {
    rule: usize,
    methods: MethodSet,
}

#[derive(Debug)]
struct TrieEdge {
    parent: usize,
    literal: Box<str>,
    child: usize,
}

/// The first rules that match a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FoundRules {
    /// The first that matches.
    pub(super) exact: Option<usize>,
    /// The first that matches if letters' case and a trailing slash are ignored; not after
    /// `exact`.
    pub(super) similar: Option<usize>,
}

impl RouteTrie {
    /// Builds the trie of patterns with the numbers of their rules, in order.
    pub(super) fn new<'p>(
        names: MethodNames,
        patterns: impl IntoIterator<Item = (usize, &'p RoutePattern)>,
    ) -> Self {
        let mut builder = TrieBuilder::default();
        builder.nodes.push(NodeDraft::new(NONE));
        for (rule, pattern) in patterns {
            builder.insert(rule, pattern);
        }
        builder.build(names)
    }

    /// Finds the rules of a request with this canonical path.
    #[inline]
    pub(super) fn find(&self, method: &str, path: &str) -> FoundRules {
        let (method, similar_method) = self.names.of_request(method);
        let path = path.strip_prefix('/').unwrap_or(path);
        let (path, has_slash) = match path.strip_suffix('/') {
            Some(path) => (path, true),
            None => (path, path.is_empty()),
        };
        let mut walk = TrieSearch {
            trie: self,
            has_slash,
            method,
            similar_method,
            exact: NONE,
            similar: NONE,
        };
        walk.visit(0, (!path.is_empty()).then_some(path), true);
        let found = |rule| (rule != NONE).then_some(rule);
        FoundRules { exact: found(walk.exact), similar: found(walk.similar) }
    }

    /// Returns the edges from a node for a segment, whose case is ignored.
    fn edges(&self, parent: usize, segment: &str) -> impl Iterator<Item = &TrieEdge> {
        let range = self.by_key.get(&key(parent, segment)).cloned().unwrap_or_default();
        self.edges[range]
            .iter()
            .filter(move |edge| edge.parent == parent && edge.literal.eq_ignore_ascii_case(segment))
    }
}

/// No rule. It is after every other.
const NONE: usize = usize::MAX;

/// A walk through the trie with one request.
struct TrieSearch<'t> {
    trie: &'t RouteTrie,
    /// Whether the path ends with a slash.
    has_slash: bool,
    method: MethodSet,
    similar_method: MethodSet,
    exact: usize,
    similar: usize,
}

impl TrieSearch<'_> {
    /// Visits a node, with the rest of the path. `is_exact` is whether the literals so far are
    /// written as in the path.
    fn visit(&mut self, node: usize, rest: Option<&str>, is_exact: bool) {
        let trie = self.trie;
        let (id, node) = (node, &trie.nodes[node]);
        if node.first >= if is_exact { self.exact } else { self.similar } {
            return;
        }
        let Some(rest) = rest else {
            self.consider(&node.plain, is_exact && !self.has_slash);
            self.consider(&node.slash, is_exact && self.has_slash);
            self.consider(&node.rest, is_exact && self.has_slash);
            return;
        };
        self.consider(&node.rest, is_exact);
        let (segment, rest) = match memchr::memchr(b'/', rest.as_bytes()) {
            Some(slash) => (&rest[..slash], Some(&rest[slash + 1..])),
            None => (rest, None),
        };
        if node.has_literals {
            for edge in trie.edges(id, segment) {
                self.visit(edge.child, rest, is_exact && *edge.literal == *segment);
            }
        }
        if let Some(any) = node.any {
            self.visit(any, rest, is_exact);
        }
    }

    fn consider(&mut self, ends: &[PatternEnd], is_exact: bool) {
        let first = |methods| ends.iter().find(|end| end.methods.intersects(methods));
        if let Some(end) = first(self.similar_method) {
            self.similar = self.similar.min(end.rule);
        }
        if is_exact && let Some(end) = first(self.method) {
            self.exact = self.exact.min(end.rule);
        }
    }
}

/// Returns the key of a literal after a node: a hash that ignores letters' case.
fn key(parent: usize, literal: &str) -> u64 {
    const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;
    /// The bit that distinguishes small letters from capital ones.
    const CASE: u64 = 0x2020_2020_2020_2020;
    let mix = |hash: u64, word: u64| {
        let product = u128::from(hash ^ word) * u128::from(PRIME);
        (product >> 64) as u64 ^ product as u64
    };
    let (words, rest) = literal.as_bytes().as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let word = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes) | CASE;
    let seed = (parent as u64 + 1).wrapping_mul(PRIME) ^ (literal.len() as u64) << 48;
    words.iter().chain([&last]).map(word).fold(seed, mix)
}

/// Takes a [`key`] as its hash.
#[derive(Debug, Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

#[derive(Default)]
struct TrieBuilder {
    nodes: Vec<NodeDraft>,
}

/// A [`TrieNode`] to which patterns are added.
struct NodeDraft {
    first: usize,
    any: Option<usize>,
    literals: BTreeMap<Box<str>, usize>,
    ends: Vec<(PathEnding, PatternEnd)>,
}

impl NodeDraft {
    fn new(first: usize) -> Self {
        Self { first, any: None, literals: BTreeMap::new(), ends: Vec::new() }
    }

    fn build(&self) -> TrieNode {
        let ends = |wanted| {
            let ends = self.ends.iter().filter(|(ending, _)| *ending == wanted);
            ends.map(|(_, end)| *end).collect()
        };
        TrieNode {
            first: self.first,
            any: self.any,
            has_literals: !self.literals.is_empty(),
            plain: ends(PathEnding::Plain),
            slash: ends(PathEnding::Slash),
            rest: ends(PathEnding::Rest),
        }
    }
}

impl TrieBuilder {
    fn insert(&mut self, rule: usize, pattern: &RoutePattern) {
        let mut node = 0;
        self.nodes[node].first = self.nodes[node].first.min(rule);
        for segment in &pattern.segments {
            let next = self.nodes.len();
            let child = match segment {
                PatternSegment::Any => *self.nodes[node].any.get_or_insert(next),
                PatternSegment::Literal(literal) => {
                    *self.nodes[node].literals.entry(literal.clone()).or_insert(next)
                }
            };
            if child == next {
                self.nodes.push(NodeDraft::new(rule));
            }
            node = child;
            self.nodes[node].first = self.nodes[node].first.min(rule);
        }
        let end = PatternEnd { rule, methods: pattern.methods };
        self.nodes[node].ends.push((pattern.ending, end));
    }

    fn build(self, names: MethodNames) -> RouteTrie {
        let mut edges: Vec<TrieEdge> = Vec::new();
        for (parent, node) in self.nodes.iter().enumerate() {
            let literals = node.literals.iter();
            edges.extend(literals.map(|(literal, child)| TrieEdge {
                parent,
                literal: literal.clone(),
                child: *child,
            }));
        }
        let key_of = |edge: &TrieEdge| key(edge.parent, &edge.literal);
        edges.sort_by_key(key_of);
        let mut by_key: HashMap<_, Range<usize>, _> = HashMap::default();
        for (index, edge) in edges.iter().enumerate() {
            by_key.entry(key_of(edge)).or_insert(index..index).end = index + 1;
        }
        let nodes = self.nodes.iter().map(NodeDraft::build).collect();
        RouteTrie { nodes, edges, by_key, names }
    }
}
