//! Figures, one per line in a fixed format, and their limits in `budget.toml`.

use std::{collections::BTreeMap, fmt, path::Path, sync::OnceLock};

use serde::Deserialize;

/// The limits, by figure name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Limits of the figures that `bench/run` measures.
    pub figures: BTreeMap<String, Bound>,
    /// Maximum instructions of one call, by scenario.
    pub instructions: BTreeMap<String, f64>,
}

/// A limit and its direction.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Less is better.
    AtMost(f64),
    /// More is better.
    AtLeast(f64),
}

impl Budget {
    /// Reads the `budget.toml` of the source tree that this program was built from.
    ///
    /// # Panics
    /// The file cannot be read or parsed. Without it no figure can be judged.
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

    /// Returns the limit of a figure, if it has one.
    #[must_use]
    pub fn bound(&self, name: &str) -> Option<Bound> {
        let count = || self.instructions.get(name.strip_prefix(INSTRUCTIONS)?).copied();
        self.figures.get(name).copied().or_else(|| count().map(Bound::AtMost))
    }
}

/// Prefix of the names of instruction counts.
pub const INSTRUCTIONS: &str = "instructions: ";

impl Bound {
    /// Whether a value is within the limit.
    #[must_use]
    pub fn allows(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }

    /// Whether a value is so far below the limit that the limit no longer constrains it. A change
    /// could use up the difference unnoticed.
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

/// Formats a number with more digits than are significant, so that rounding decides nothing.
#[must_use]
pub fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 0.1 => format!("{value:.4}"),
        _ => format!("{value:.6}"),
    }
}

/// Prints one figure with its [`Bound`], if it has one.
#[expect(clippy::print_stdout, reason = "the report")]
pub fn print(name: &str, value: f64, detail: &str) {
    let bound = Budget::read().bound(name).map_or(String::new(), |bound| format!("  {bound}"));
    println!("{name:56}  {:>8}  ({detail}){bound}", number(value));
}

/// Parses a line that [`print()`] wrote; `None` for any other line.
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
    fn printed_figure_is_parsed_back() {
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
    fn bound_allows_values_on_its_side() {
        assert!(Bound::AtMost(2.0).allows(2.0) && !Bound::AtMost(2.0).allows(2.1));
        assert!(Bound::AtLeast(2.0).allows(2.0) && !Bound::AtLeast(2.0).allows(1.9));
        assert!(Bound::AtMost(100.0).is_loose(89.0) && !Bound::AtMost(100.0).is_loose(91.0));
    }

    #[test]
    fn budget_file_is_readable() {
        let budget = Budget::read();
        assert_eq!(budget.bound("cached RS256 / jsonwebtoken"), Some(Bound::AtMost(0.003)));
        assert_eq!(budget.bound("two threads / one, 1 token"), Some(Bound::AtLeast(1.9)));
        assert_eq!(budget.bound("nothing of this name"), None);
        for scenario in budget.instructions.keys() {
            assert!(budget.bound(&format!("{INSTRUCTIONS}{scenario}")).is_some());
        }
    }
}
