//! JSON parsing onto a flat tape, with checks for everything that two parsers may read differently:
//! duplicate member names at any level, too much depth.

mod duplicates;
mod numbers;

use simd_json::{ErrorType, Node, Tape};

use self::duplicates::DuplicateFinder;
use crate::{limits, reject::Reject};

/// The reason why a document was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JsonError {
    /// Not JSON (RFC 8259), or the outermost value is not an object.
    NotAnObject,
    DuplicateMember,
    TooDeep,
}

impl JsonError {
    /// The [`Reject`] for a token with this error; `no_object` is the one for
    /// [`NotAnObject`](Self::NotAnObject).
    pub(crate) fn reject(self, no_object: Reject) -> Reject {
        match self {
            Self::NotAnObject => no_object,
            Self::DuplicateMember => Reject::DuplicateMember,
            Self::TooDeep => Reject::TooDeep,
        }
    }
}

/// Buffers for parsing one document at a time, reused for the next.
pub(crate) struct JsonBuffers {
    text: Vec<u8>,
    /// Holds a document with numbers out of range, when it is parsed a second time.
    other_text: Vec<u8>,
    simd: simd_json::Buffers,
    tape: Tape<'static>,
    duplicates: DuplicateFinder,
}

impl JsonBuffers {
    /// Creates buffers for documents of up to `bytes` bytes; they grow for longer ones.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        let padded = bytes.saturating_add(simd_json::INPUT_PADDING);
        Self {
            text: Vec::with_capacity(padded),
            other_text: Vec::new(),
            simd: simd_json::Buffers::with_max_depth(bytes, limits::MAX_DEPTH),
            tape: Tape(Vec::new()),
            duplicates: DuplicateFinder::default(),
        }
    }

    /// Creates buffers for any token. The parser estimates its memory and grows it when necessary,
    /// so it parses the widest possible document first.
    pub(crate) fn for_tokens() -> Self {
        let mut buffers = Self::with_capacity(limits::MAX_TOKEN_BYTES);
        let mut widest = br#"{"":["#.to_vec();
        widest.resize(limits::MAX_TOKEN_BYTES.saturating_sub(3), b',');
        widest.iter_mut().skip(5).step_by(2).for_each(|byte| *byte = b'1');
        widest.extend_from_slice(b"1]}");
        let parsed = buffers.parse(&widest).is_ok();
        debug_assert!(parsed, "the document is valid JSON");
        buffers.duplicates = DuplicateFinder::for_documents(limits::MAX_TOKEN_BYTES);
        buffers.other_text.reserve_exact(buffers.text.capacity());
        buffers
    }

    /// Parses a document whose outermost value is an object.
    pub(crate) fn parse<'b>(&'b mut self, json: &[u8]) -> Result<Document<'b>, JsonError> {
        let mut document = self.parse_with_duplicates(json)?;
        document.check()?;
        Ok(document)
    }

    /// Parses a document that may have two members with the same name, which
    /// [`Document::check`] finds.
    pub(crate) fn parse_with_duplicates<'b>(
        &'b mut self,
        json: &[u8],
    ) -> Result<Document<'b>, JsonError> {
        let Self { text, other_text, simd, tape: home, duplicates } = self;
        let mut tape = core::mem::replace(home, Tape(Vec::new())).reset();
        pad(text, json);
        let mut parsed = simd_json::fill_tape_padded(text, json.len(), simd, &mut tape);
        if parsed.as_ref().is_err_and(|error| *error.error() == ErrorType::InvalidNumber) {
            pad(other_text, json);
            if other_text.get_mut(..json.len()).is_some_and(numbers::replace_out_of_range) {
                tape = tape.reset();
                parsed = simd_json::fill_tape_padded(other_text, json.len(), simd, &mut tape);
            }
        }
        let document = Document { tape, home, duplicates };
        match parsed {
            Ok(()) => {}
            Err(error) if *error.error() == ErrorType::DepthLimitExceeded => {
                return Err(JsonError::TooDeep);
            }
            Err(_) => return Err(JsonError::NotAnObject),
        }
        if matches!(document.tape.0.first(), Some(Node::Object { .. })) {
            Ok(document)
        } else {
            Err(JsonError::NotAnObject)
        }
    }
}

/// Copies a document to a buffer, with the bytes behind it that the parser demands.
fn pad(text: &mut Vec<u8>, json: &[u8]) {
    text.clear();
    text.extend_from_slice(json);
    text.resize(json.len().saturating_add(simd_json::INPUT_PADDING), b' ');
}

/// One parsed object. Dropping it returns its memory to the buffers.
pub(crate) struct Document<'b> {
    tape: Tape<'b>,
    home: &'b mut Tape<'static>,
    duplicates: &'b mut DuplicateFinder,
}

impl Drop for Document<'_> {
    fn drop(&mut self) {
        *self.home = core::mem::replace(&mut self.tape, Tape(Vec::new())).reset();
    }
}

impl<'b> Document<'b> {
    /// The members of the outermost object, in document order.
    pub(crate) fn members(&self) -> Members<'_, 'b> {
        Members::of(&self.tape.0)
    }

    /// Refuses two members with the same name in one object.
    pub(crate) fn check(&mut self) -> Result<(), JsonError> {
        for (place, node) in self.tape.0.iter().enumerate() {
            if !matches!(node, Node::Object { .. }) {
                continue;
            }
            let object = self.tape.0.get(place..).unwrap_or_default();
            if self.duplicates.has_duplicate(Members::of(object)) {
                return Err(JsonError::DuplicateMember);
            }
        }
        Ok(())
    }
}

/// Finds the numbers of a document as they are written there. Those out of range have another value
/// on the tape.
pub(crate) struct WrittenNumbers<'n> {
    nodes: &'n [Node<'n>],
    json: &'n [u8],
    /// The next node, and the place in `json` behind the numbers of all nodes before it.
    next: (usize, usize),
}

impl<'n> WrittenNumbers<'n> {
    /// The numbers of a document, which was parsed from `json`.
    pub(crate) fn of(document: &'n Document<'_>, json: &'n [u8]) -> Self {
        Self { nodes: &document.tape.0, json, next: (0, 0) }
    }

    /// Returns a number of the document as it is written. Costs no more than one pass over the
    /// document for any sequence of numbers in their order.
    pub(crate) fn text(&mut self, value: Value<'_, '_>) -> Option<&'n str> {
        let offset = value.0.as_ptr().addr().checked_sub(self.nodes.as_ptr().addr())?;
        let index = offset.checked_div(size_of::<Node<'_>>())?;
        if index < self.next.0 {
            self.next = (0, 0);
        }
        let (mut node, mut at) = self.next;
        loop {
            let is_number = is_number(self.nodes.get(node)?);
            let found = is_number.then(|| numbers::next(self.json, at)).flatten();
            at = found.map_or(at, |(_, end)| end);
            node = node.checked_add(1)?;
            if node > index {
                self.next = (node, at);
                return core::str::from_utf8(found?.0).ok();
            }
        }
    }
}

/// One JSON value: its nodes, of which the first holds the type.
#[derive(Clone, Copy)]
pub(crate) struct Value<'d, 'b>(&'d [Node<'b>]);

impl<'d, 'b> Value<'d, 'b> {
    pub(crate) fn as_str(self) -> Option<&'b str> {
        match self.0.first() {
            Some(Node::String(text)) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn is_null(self) -> bool {
        matches!(self.0.first(), Some(Node::Static(simd_json::StaticNode::Null)))
    }

    /// Returns a whole number that is written without a fraction or an exponent.
    pub(crate) fn as_integer(self) -> Option<i128> {
        match self.0.first() {
            Some(Node::Static(simd_json::StaticNode::U64(value))) => Some((*value).into()),
            Some(Node::Static(simd_json::StaticNode::I64(value))) => Some((*value).into()),
            _ => None,
        }
    }

    pub(crate) fn is_number(self) -> bool {
        self.0.first().is_some_and(is_number)
    }

    pub(crate) fn as_bool(self) -> Option<bool> {
        match self.0.first() {
            Some(Node::Static(simd_json::StaticNode::Bool(value))) => Some(*value),
            _ => None,
        }
    }

    /// The integer part of a number between zero and `latest`. A NumericDate may have a fraction,
    /// which is cut off (RFC 7519 section 2).
    pub(crate) fn as_whole(self, latest: u64) -> Option<u64> {
        let whole = match self.0.first() {
            Some(Node::Static(simd_json::StaticNode::U64(value))) => *value,
            Some(Node::Static(simd_json::StaticNode::I64(value))) => u64::try_from(*value).ok()?,
            Some(Node::Static(simd_json::StaticNode::F64(value))) => whole_part(*value)?,
            _ => return None,
        };
        (whole <= latest).then_some(whole)
    }

    /// The elements of an array.
    pub(crate) fn elements(self) -> Option<impl Iterator<Item = Self>> {
        let Some(Node::Array { len, .. }) = self.0.first() else { return None };
        let mut rest = self.0.get(1..).unwrap_or_default();
        Some((0..*len).map_while(move |_| {
            let (value, after) = split_value(rest)?;
            rest = after;
            Some(value)
        }))
    }

    /// The members of an object.
    pub(crate) fn members(self) -> Option<Members<'d, 'b>> {
        matches!(self.0.first(), Some(Node::Object { .. })).then(|| Members::of(self.0))
    }
}

fn is_number(node: &Node<'_>) -> bool {
    use simd_json::StaticNode::{F64, I64, U64};
    matches!(node, Node::Static(U64(_) | I64(_) | F64(_)))
}

/// The members of one object, in document order.
#[derive(Clone)]
pub(crate) struct Members<'d, 'b> {
    left: usize,
    rest: &'d [Node<'b>],
}

impl<'d, 'b> Members<'d, 'b> {
    fn of(object: &'d [Node<'b>]) -> Self {
        match object.split_first() {
            Some((Node::Object { len, .. }, rest)) => Self { left: *len, rest },
            _ => Self { left: 0, rest: &[] },
        }
    }

    /// Returns the value of the member with this name.
    pub(crate) fn get(mut self, name: &str) -> Option<Value<'d, 'b>> {
        self.find_map(|(member, value)| (member == name).then_some(value))
    }
}

impl<'d, 'b> Iterator for Members<'d, 'b> {
    type Item = (&'b str, Value<'d, 'b>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let (name, rest) = self.rest.split_first()?;
        let Node::String(name) = name else { return None };
        let (value, rest) = split_value(rest)?;
        self.rest = rest;
        Some((name, value))
    }
}

/// Splits the nodes of the first value from the rest.
fn split_value<'d, 'b>(nodes: &'d [Node<'b>]) -> Option<(Value<'d, 'b>, &'d [Node<'b>])> {
    let length = match nodes.first()? {
        Node::Object { count, .. } | Node::Array { count, .. } => count.checked_add(1)?,
        Node::String(_) | Node::Static(_) => 1,
    };
    let (value, rest) = nodes.split_at_checked(length)?;
    Some((Value(value), rest))
}

/// Returns the integer part of a non-negative, finite number.
fn whole_part(value: f64) -> Option<u64> {
    // From 2^53 on, a double has no fraction and is beyond [`limits::MAX_TIME`].
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if !(0.0..EXACT).contains(&value) {
        return None;
    }
    #[expect(
        clippy::as_conversions,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "in range by the check above; there is no TryFrom for floats"
    )]
    Some(value as u64)
}

#[cfg(test)]
mod tests;
