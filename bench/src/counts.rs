//! Instructions of one call, counted by valgrind. The counts are the same on a busy machine as on
//! an idle one, so that continuous integration can judge them.
//!
//! A program with scenarios prepares its fixture, runs itself under valgrind once per scenario,
//! and fails if a count is past its limit in `budget.toml`. Each program contains only what it
//! counts, as a second caller of a function changes what the compiler inlines.

pub mod http2;

use std::{
    error::Error,
    hint::black_box,
    path::Path,
    process::{Command, ExitCode},
};

use crate::budget;

/// Result of preparing, running or counting.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Number of calls that a count is the mean of.
pub const CALLS: usize = 32;

/// Name of a scenario, and the function that prepares it.
pub type Scenario<F> = (&'static str, fn(&F) -> Work<'_>);

/// One call, given its number; returns whether it had the expected result.
pub type Work<'f> = Box<dyn FnMut(usize) -> bool + 'f>;

/// Data shared by the scenarios, in files, so that valgrind does not run what makes them.
pub trait Fixture: Sized {
    /// Makes the files.
    ///
    /// # Errors
    /// They cannot be written.
    fn make(directory: &Path) -> Result<()>;

    /// Reads the files.
    fn read(directory: &Path) -> Self;
}

/// For scenarios without shared data.
impl Fixture for () {
    fn make(_directory: &Path) -> Result<()> {
        Ok(())
    }

    fn read(_directory: &Path) {}
}

/// Main function of a program that counts its scenarios. The exit code is success if all counts
/// are within their limits.
///
/// # Errors
/// The fixture cannot be made, or a scenario cannot be counted.
pub fn main<F: Fixture>(scenarios: &[Scenario<F>]) -> Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next(), arguments.next()) {
        (Some(scenario), Some(directory)) => {
            run(scenarios, &scenario, Path::new(&directory)).map(|()| ExitCode::SUCCESS)
        }
        _ => count_all(scenarios),
    }
}

fn count_all<F: Fixture>(scenarios: &[Scenario<F>]) -> Result<ExitCode> {
    let directory = std::env::temp_dir().join(format!("countersign-counts-{}", std::process::id()));
    F::make(&directory)?;
    let counted: Result<Vec<_>> =
        scenarios.iter().map(|(name, _)| count(name, &directory)).collect();
    if directory.exists() {
        std::fs::remove_dir_all(&directory)?;
    }
    let mut within = true;
    for ((name, _), instructions) in scenarios.iter().zip(counted?) {
        within &= judge(name, instructions);
    }
    Ok(if within { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[expect(clippy::print_stderr, reason = "advice about a count")]
fn judge(name: &str, instructions: f64) -> bool {
    let name = format!("{}{name}", budget::INSTRUCTIONS);
    budget::print(&name, instructions, &format!("mean of {CALLS} calls"));
    if !cfg!(target_arch = "x86_64") {
        eprintln!("{name}: not judged: the limits are for x86-64");
        return true;
    }
    match budget::Budget::read().bound(&name) {
        None => eprintln!("{name}: no limit in budget.toml"),
        Some(bound) if !bound.allows(instructions) => eprintln!("{name}: over the limit, {bound}"),
        Some(bound) => {
            if bound.is_loose(instructions) {
                eprintln!("{name}: far below the limit, {bound}: tighten it in bench/budget.toml");
            }
            return true;
        }
    }
    false
}

/// Counts the instructions of one call, in a process under valgrind.
fn count(scenario: &str, directory: &Path) -> Result<f64> {
    let mut command = Command::new("valgrind");
    // Collect only below `measured`: neither reading the keys nor warming up counts.
    command.args([
        "--tool=callgrind",
        "--callgrind-out-file=/dev/null",
        "--toggle-collect=*counts*measured*",
    ]);
    command.arg(std::env::current_exe()?).arg(scenario).arg(directory);
    let output = command
        .output()
        .map_err(|error| format!("valgrind: {error}; on Debian: apt-get install valgrind"))?;
    let report = String::from_utf8_lossy(&output.stderr);
    let collected = report
        .lines()
        .find_map(|line| line.split_once("Collected :")?.1.trim().parse::<f64>().ok());
    match collected {
        #[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "a small constant")]
        Some(instructions) if output.status.success() && instructions > 0.0 => {
            Ok((instructions / CALLS as f64).round())
        }
        _ => Err(format!("{scenario}: valgrind counted no instructions:\n{report}").into()),
    }
}

/// Runs one scenario in the process under valgrind: twice to warm up, and once to be counted. What
/// is stored about a cached token is stored at its second use.
fn run<F: Fixture>(scenarios: &[Scenario<F>], scenario: &str, directory: &Path) -> Result<()> {
    let fixture = F::read(directory);
    let (_, make) =
        scenarios.iter().find(|(name, _)| *name == scenario).ok_or("no such scenario")?;
    let mut work = make(&fixture);
    // A first evaluation of a policy may reach its time limit under valgrind on a busy machine.
    let _first = (0..CALLS).filter(|call| work(*call)).count();
    let warm = (0..CALLS).filter(|call| work(*call)).count();
    let right = measured(&mut *work);
    if warm == CALLS && right == CALLS {
        Ok(())
    } else {
        Err(format!("{right} of {CALLS} calls had the expected result").into())
    }
}

/// Runs the calls that count. Valgrind finds this function by its name.
#[inline(never)]
fn measured(work: &mut dyn FnMut(usize) -> bool) -> usize {
    (0..CALLS).filter(|call| work(black_box(*call))).count()
}
