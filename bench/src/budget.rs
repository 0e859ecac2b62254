//! Figures, one a line in one format, and the limits of `budget.toml` that they are
//! judged by.

use std::{collections::BTreeMap, fmt, path::Path, sync::OnceLock};

use serde::Deserialize;

/// The limits, by the names of the figures.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// What a run of `bench/run` must show.
    pub figures: BTreeMap<String, Bound>,
    /// The most instructions that one call of a scenario may take.
    pub instructions: BTreeMap<String, f64>,
}

/// On which side of a limit is good.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Less is better.
    AtMost(f64),
    /// More is better.
    AtLeast(f64),
}

impl Budget {
    /// The limits that this was built beside.
    ///
    /// # Panics
    /// They cannot be read: nothing can be judged then.
    #[must_use]
    pub fn read() -> &'static Self {
        static BUDGET: OnceLock<Budget> = OnceLock::new();
        BUDGET.get_or_init(|| {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("budget.toml");
            let text = std::fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        })
    }

    /// The limit of this figure, if it has one.
    #[must_use]
    pub fn bound(&self, name: &str) -> Option<Bound> {
        let count = || self.instructions.get(name.strip_prefix(INSTRUCTIONS)?).copied();
        self.figures.get(name).copied().or_else(|| count().map(Bound::AtMost))
    }
}

/// What the names of instruction counts start with.
pub const INSTRUCTIONS: &str = "instructions: ";

impl Bound {
    /// Whether a value is within it.
    #[must_use]
    pub fn allows(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }

    /// Whether a value is so far within it that it no longer limits anything: a
    /// change could spend the difference and nobody would hear of it.
    #[must_use]
    pub fn is_loose(self, value: f64) -> bool {
        matches!(self, Self::AtMost(limit) if value < limit * 0.9)
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(limit) => write!(f, "at most {limit}"),
            Self::AtLeast(limit) => write!(f, "at least {limit}"),
        }
    }
}

/// A number with more digits than mean something, so that rounding decides nothing.
#[must_use]
pub fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 0.1 => format!("{value:.4}"),
        _ => format!("{value:.6}"),
    }
}

/// Prints one figure.
#[expect(clippy::print_stdout, reason = "the report")]
pub fn print(name: &str, value: f64, detail: &str) {
    let bound = Budget::read().bound(name).map_or(String::new(), |bound| format!("  {bound}"));
    println!("{name:56}  {:>8}  ({detail}){bound}", number(value));
}

/// The figure of a printed line; `None` for any other line.
#[must_use]
pub fn parse(line: &str) -> Option<(&str, f64)> {
    let (name, rest) = line.split_once("  ")?;
    let (value, _) = rest.trim_start().split_once("  (")?;
    Some((name, value.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_figure_again_when_it_is_read() {
        let line = format!(
            "{:56}  {:>8}  (quartiles 0.1 to 0.2)  at most 0.25",
            "cold HS256 / jsonwebtoken",
            number(0.123_44)
        );
        assert_eq!(parse(&line), Some(("cold HS256 / jsonwebtoken", 0.1234)));
        assert_eq!(
            parse("round 3: bare 6.77 us, verify 1.23 us, countersign 9.17 us; ratio 1.15"),
            None
        );
        assert_eq!(parse(""), None);
    }

    #[test]
    fn a_bound_holds_on_its_own_side() {
        assert!(Bound::AtMost(2.0).allows(2.0) && !Bound::AtMost(2.0).allows(2.1));
        assert!(Bound::AtLeast(2.0).allows(2.0) && !Bound::AtLeast(2.0).allows(1.9));
        assert!(Bound::AtMost(100.0).is_loose(89.0) && !Bound::AtMost(100.0).is_loose(91.0));
    }

    #[test]
    fn the_budget_can_be_read() {
        let budget = Budget::read();
        assert_eq!(budget.bound("cached RS256 / jsonwebtoken"), Some(Bound::AtMost(0.003)));
        assert_eq!(budget.bound("two threads / one, 1 token"), Some(Bound::AtLeast(1.9)));
        assert_eq!(budget.bound("nothing of this name"), None);
        for scenario in budget.instructions.keys() {
            assert!(budget.bound(&format!("{INSTRUCTIONS}{scenario}")).is_some());
        }
    }
}
