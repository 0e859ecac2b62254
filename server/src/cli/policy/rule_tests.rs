//! `countersign policy test`: runs the tests of a directory of policies, as `opa test` does.
//!
//! Tests run in the interpreter of the library, which has `with`, coverage and output of `print`.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use regorus::{
    Engine, Value,
    coverage::File as CoveredFile,
    unstable::{Rule, RuleHead},
};

use super::{failed_at, read_json};
use crate::{
    authorization::policy::{MAX_POLICY_BYTES, PolicyError},
    base::{clock, watched_file::read_text},
    cli::{CommandError, print},
};

pub(super) fn run(directory: &Path) -> Result<(), CommandError> {
    let mut engine = load(directory)?;
    let tests = tests(&mut engine);
    if tests.is_empty() {
        return Err(failed_at(directory, "no rule named test_... in its .rego files"));
    }
    engine.set_enable_coverage(true);
    engine.set_gather_prints(true);
    let mut counts = TestCounts::default();
    for test in &tests {
        let start = clock::instant();
        let outcome = test.run(&mut engine);
        counts.add(outcome);
        if outcome != TestOutcome::Pass {
            let (name, elapsed) = (&test.name, milliseconds(start.elapsed()));
            print(format_args!("{name}: {} ({elapsed})", outcome.name()))?;
        }
        for line in engine.take_prints().unwrap_or_default() {
            print(format_args!("  {line}"))?;
        }
    }
    print(counts.summary())?;
    let report = engine.get_coverage_report().map_err(CommandError::failed)?;
    for file in &report.files {
        print(coverage(file))?;
    }
    match counts.passed + counts.skipped {
        fine if fine == tests.len() => Ok(()),
        _ => Err(CommandError::failed("some tests did not pass")),
    }
}

/// Loads the policies and the data of a directory.
fn load(directory: &Path) -> Result<Engine, CommandError> {
    let mut engine = Engine::new();
    let mut files: Vec<PathBuf> = directory
        .read_dir()
        .map_err(|error| failed_at(directory, error))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "rego"))
        .collect();
    files.sort_unstable();
    for file in &files {
        let text = read_text(file, MAX_POLICY_BYTES).map_err(|error| failed_at(file, error))?;
        let path = file.display().to_string();
        let added = engine.add_policy(path.clone(), text);
        added.map_err(|error| failed(&path, &error.to_string()))?;
    }
    let data = directory.join("data.json");
    if data.exists() {
        let data = Value::from(read_json(&data)?);
        engine.add_data(data).map_err(CommandError::failed)?;
    }
    Ok(engine)
}

fn failed(path: &str, report: &str) -> CommandError {
    CommandError::failed(PolicyError::from_report(path, report))
}

/// A rule that is a test.
struct RuleTest {
    /// Its path, such as `data.policy_test.test_admin`.
    name: String,
    is_skipped: bool,
}

/// Returns the tests in the order of the files.
fn tests(engine: &mut Engine) -> Vec<RuleTest> {
    let mut names = BTreeSet::new();
    let mut tests = Vec::new();
    for module in engine.get_modules() {
        let package = module.package.refr.span().text().to_owned();
        let rules = module.policy.iter().filter_map(|rule| match &**rule {
            Rule::Spec { head: RuleHead::Compr { refr, .. }, .. } => Some(refr.span().text()),
            _ => None,
        });
        for rule in rules {
            let is_skipped = rule.starts_with("todo_test_");
            let name = format!("data.{package}.{rule}");
            if (is_skipped || rule.starts_with("test_")) && names.insert(name.clone()) {
                tests.push(RuleTest { name, is_skipped });
            }
        }
    }
    tests
}

/// Outcome of a [`RuleTest`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum TestOutcome {
    Pass,
    Fail,
    Error,
    Skip,
}

impl TestOutcome {
    fn name(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::Error => "ERROR",
            Self::Skip => "SKIPPED",
        }
    }
}

impl RuleTest {
    fn run(&self, engine: &mut Engine) -> TestOutcome {
        if self.is_skipped {
            return TestOutcome::Skip;
        }
        match engine.eval_rule(self.name.clone()) {
            Ok(Value::Bool(true)) => TestOutcome::Pass,
            Ok(_) => TestOutcome::Fail,
            Err(error) => {
                tracing::error!("{}", PolicyError::from_report(&self.name, &error.to_string()));
                TestOutcome::Error
            }
        }
    }
}

/// Numbers of tests by [`TestOutcome`].
#[derive(Default)]
struct TestCounts {
    passed: usize,
    failed: usize,
    errors: usize,
    skipped: usize,
}

impl TestCounts {
    fn add(&mut self, outcome: TestOutcome) {
        *match outcome {
            TestOutcome::Pass => &mut self.passed,
            TestOutcome::Fail => &mut self.failed,
            TestOutcome::Error => &mut self.errors,
            TestOutcome::Skip => &mut self.skipped,
        } += 1;
    }

    /// Returns the numbers of tests by outcome, as `opa test` prints them.
    fn summary(&self) -> String {
        let total = self.passed + self.failed + self.errors + self.skipped;
        let counts = [
            ("PASS", self.passed),
            ("FAIL", self.failed),
            ("ERROR", self.errors),
            ("SKIPPED", self.skipped),
        ];
        let counts = counts.into_iter().filter(|(_, count)| *count > 0);
        let lines: Vec<_> =
            counts.map(|(name, count)| format!("{name}: {count}/{total}")).collect();
        lines.join("\n")
    }
}

fn milliseconds(elapsed: Duration) -> String {
    format!("{:.3} ms", elapsed.as_secs_f64() * 1000.0)
}

/// Describes the coverage of a [file](CoveredFile).
fn coverage(file: &CoveredFile) -> String {
    let (covered, total) = (file.covered.len(), file.covered.len() + file.not_covered.len());
    let percent = 100.0 * covered as f64 / total.max(1) as f64;
    let mut text = format!("{}: {percent:.1} % of {total} lines covered", file.path);
    if !file.not_covered.is_empty() {
        let _infallible = write!(text, "; not covered: {}", ranges(&file.not_covered));
    }
    text
}

/// Returns numbers of lines as ranges: `3, 7-9`.
fn ranges(lines: &BTreeSet<u32>) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for line in lines {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *line => *last = *line,
            _ => ranges.push((*line, *line)),
        }
    }
    let texts = ranges.into_iter().map(|(first, last)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    });
    texts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_printed_as_ranges() {
        assert_eq!(ranges(&BTreeSet::from([3, 7, 8, 9, 11])), "3, 7-9, 11");
        assert_eq!(ranges(&BTreeSet::new()), "");
    }
}
