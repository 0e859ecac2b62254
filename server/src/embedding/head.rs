//! The head of a request in the memory of a proxy, and a copy of it for a check that waits.

use countersign_front::{Fields, RequestHead};
use http::{HeaderName, Version};

use crate::base::header_names::is_header;

/// The head of a request whose header lines are pairs of a name and a value.
#[derive(Clone, Copy)]
pub struct HeaderLines<'r, L> {
    method: &'r str,
    target: &'r str,
    host: &'r str,
    lines: &'r [L],
}

/// A header line in the memory of a proxy.
pub trait HeaderLine {
    /// Its name, in any case.
    fn name(&self) -> &[u8];

    /// Its value, without the whitespace around it.
    fn value(&self) -> &[u8];
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> HeaderLine for (N, V) {
    fn name(&self) -> &[u8] {
        self.0.as_ref()
    }

    fn value(&self) -> &[u8] {
        self.1.as_ref()
    }
}

/// Error of a method, target or host that is not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidHead;

impl<'r, L: HeaderLine> HeaderLines<'r, L> {
    /// Returns the head with this method, target, host and header lines.
    ///
    /// # Errors
    /// [`InvalidHead`] if one of the first three is not UTF-8.
    pub fn new([method, target, host]: [&'r [u8]; 3], lines: &'r [L]) -> Result<Self, InvalidHead> {
        let text = |bytes| str::from_utf8(bytes).map_err(|_| InvalidHead);
        Ok(Self { method: text(method)?, target: text(target)?, host: text(host)?, lines })
    }

    /// Returns the head with these header lines, and without method, target and host.
    #[must_use]
    pub const fn of_lines(lines: &'r [L]) -> Self {
        Self { method: "", target: "", host: "", lines }
    }

    fn named<'n>(
        &self,
        name: &'n HeaderName,
    ) -> impl DoubleEndedIterator<Item = &'r [u8]> + use<'r, 'n, L> {
        let lines = self.lines.iter().filter(|line| is_header(line.name(), name));
        lines.map(HeaderLine::value)
    }
}

impl<L: HeaderLine> Fields for HeaderLines<'_, L> {
    fn line(&self, name: &HeaderName, nth: usize) -> Option<&[u8]> {
        self.named(name).nth_back(nth)
    }

    fn each_line<'f>(&'f self, name: &HeaderName, take: &mut dyn FnMut(&'f [u8])) {
        self.named(name).for_each(take);
    }

    fn any_name(&self, test: &dyn Fn(&[u8]) -> bool) -> bool {
        self.lines.iter().any(|line| test(line.name()))
    }
}

impl<L: HeaderLine> RequestHead for HeaderLines<'_, L> {
    /// The version does not matter to a check.
    fn version(&self) -> Version {
        Version::HTTP_11
    }

    fn method(&self) -> &str {
        self.method
    }

    fn target(&self) -> &str {
        self.target
    }

    fn host(&self) -> &str {
        self.host
    }

    fn for_each_line(&self, call: &mut dyn FnMut(&[u8], &[u8])) {
        self.lines.iter().for_each(|line| call(line.name(), line.value()));
    }
}

/// A copy of a request's head.
pub(super) struct KeptHead {
    method: String,
    target: String,
    host: String,
    lines: Vec<KeptLine>,
}

/// A copy of a header line: its name and its value.
type KeptLine = (Box<[u8]>, Box<[u8]>);

impl KeptHead {
    pub(super) fn new(head: &impl RequestHead) -> Self {
        let mut lines = Vec::new();
        head.for_each_line(&mut |name, value| {
            lines.push((name.into(), value.into()));
        });
        let [method, target, host] = [head.method(), head.target(), head.host()].map(str::to_owned);
        Self { method, target, host, lines }
    }

    /// Returns the memory that it holds, in bytes.
    pub(super) fn held_bytes(&self) -> usize {
        let texts = self.method.len() + self.target.len() + self.host.len();
        let line = |line: &KeptLine| size_of::<KeptLine>() + line.name().len() + line.value().len();
        texts + self.lines.iter().map(line).sum::<usize>()
    }

    /// Returns the head.
    pub(super) fn head(&self) -> impl RequestHead + '_ {
        let Self { method, target, host, lines } = self;
        HeaderLines { method, target, host, lines }
    }
}
