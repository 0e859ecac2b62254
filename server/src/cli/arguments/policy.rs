//! Arguments of `policy`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Commands for access policies.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Check an access policy, and print its roles and built-in functions.
    #[command(
        after_help = "Example:\n  countersign policy check /etc/inmanta/authorization/policy.rego"
    )]
    Check {
        /// The policy.
        file: PathBuf,
    },
    /// Run the tests of access policies, and print the coverage of each file.
    #[command(after_help = "\
Loads the .rego files of the directory and data.json. Each rule named test_... is a test, in any
package; todo_test_... is skipped. Tests may use `with` to set `input` and `data`.

The exit code is 1 if a test fails.

Example:
  countersign policy test /etc/inmanta/authorization/")]
    Test {
        /// Directory of the policy and its tests.
        directory: PathBuf,
    },
    /// Decide about inputs: a JSON object per line of standard input.
    #[command(after_help = "\
An input is {\"request\": {\"endpoint_id\": ..., \"parameters\": {...}}, \"token\": {...}}, or such an
object as the member `input`, as in the log of the policy engine. Each line of the output is
{\"allow\": true}, {\"allow\": false} or {\"error\": \"...\"}. The exit code is 1 after an error.

Example:
  countersign policy eval --policy policy.rego --endpoints data.json < inputs.jsonl")]
    Eval(PolicyInputArgs),
    /// Explain the decisions about inputs: the rule that allows each, or what each rule lacks.
    #[command(after_help = "\
Reads a JSON object per line, as `policy eval` does. Output of `print` in the policy is shown.

Example:
  countersign policy explain --policy policy.rego --endpoints data.json < input.json")]
    Explain(PolicyInputArgs),
    /// Print the endpoints, as a policy has them in `data.endpoints`.
    PrintEndpointData,
    /// Write a policy, its data and an input to a directory, to be debugged in an editor.
    #[command(after_help = "\
The files are policy/policy.rego, data.json and input.json, as the extension of Visual Studio Code
for the Open Policy Agent expects them. Existing files are not changed.

Example:
  countersign policy export-debug --policy policy.rego debug/")]
    ExportDebug {
        /// The policy (default: the built-in default policy).
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
        /// Directory of the files.
        directory: PathBuf,
    },
    /// Print the built-in default policy.
    #[command(after_help = "\
Example:
  countersign policy print-default > /etc/inmanta/authorization/policy.rego")]
    PrintDefault,
}

/// A policy and its data, for inputs on standard input.
#[derive(Args, Debug)]
pub struct PolicyInputArgs {
    /// The policy (default: the built-in default policy).
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// JSON file with the endpoints, as `policy print-endpoint-data` prints them (default: those of
    /// this server).
    #[arg(long, value_name = "FILE")]
    pub endpoints: Option<PathBuf>,
}
