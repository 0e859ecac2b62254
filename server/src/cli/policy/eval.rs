//! `countersign policy eval`.

use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};

use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::{PolicyFile, endpoints};
use crate::cli::{CommandError, arguments::PolicyInputArgs};

pub(super) fn run(args: &PolicyInputArgs) -> Result<(), CommandError> {
    let policy = PolicyFile::read(args.policy.as_deref())?.compile(&endpoints(args)?)?;
    let mut failures = 0_usize;
    let mut output = BufWriter::new(io::stdout().lock());
    for_each_input(|input, is_last_waiting| {
        let result = match input {
            Ok(input) => policy.allows_document(&input).map_err(|error| error.to_string()),
            Err(error) => Err(error),
        };
        failures += usize::from(result.is_err());
        let line = match result {
            Ok(allow) => json!({ "allow": allow }),
            Err(error) => json!({ "error": error }),
        };
        writeln!(output, "{line}")?;
        if is_last_waiting { output.flush() } else { Ok(()) }
    })?;
    output.flush()?;
    match failures {
        0 => Ok(()),
        failures => Err(CommandError::failed(format_args!("{failures} inputs without a decision"))),
    }
}

/// Calls `process` with each input of standard input, which may have several lines, and with whether
/// no further line is waiting.
pub(super) fn for_each_input(
    mut process: impl FnMut(Result<Value, String>, bool) -> io::Result<()>,
) -> io::Result<()> {
    let mut stdin = BufReader::with_capacity(1 << 16, io::stdin());
    let (mut text, mut line) = (Vec::new(), Vec::new());
    while stdin.read_until(b'\n', &mut line)? > 0 {
        let is_last_waiting = stdin.buffer().is_empty();
        text.extend_from_slice(&line);
        match parse(&text) {
            None => {}
            // A line that is an input by itself is not part of the mistake before it.
            Some(Err(error)) if text != line => {
                process(Err(error), false)?;
                text.clear();
                match parse(&line) {
                    None => text.extend_from_slice(&line),
                    Some(result) => process(result, is_last_waiting)?,
                }
            }
            Some(result) => {
                process(result, is_last_waiting)?;
                text.clear();
            }
        }
        line.clear();
    }
    if text.trim_ascii().is_empty() {
        return Ok(());
    }
    process(input(&text), true)
}

/// Parses an input. `None` if it is blank, or ends early: the next line may continue it.
fn parse(text: &[u8]) -> Option<Result<Value, String>> {
    if text.trim_ascii().is_empty() {
        return None;
    }
    match serde_json::from_slice::<IgnoredAny>(text) {
        Err(error) if error.is_eof() => None,
        _ => Some(input(text)),
    }
}

/// Parses an input, which may be the member `input` of a request to the Open Policy Agent.
fn input(line: &[u8]) -> Result<Value, String> {
    let mut document: Value =
        serde_json::from_slice(line).map_err(|error| format!("invalid JSON: {error}"))?;
    let input = match document.get_mut("input") {
        Some(input) => input.take(),
        None => document,
    };
    if !input["request"]["endpoint_id"].is_string() {
        return Err("the input has no request with an endpoint_id".into());
    }
    Ok(input)
}
