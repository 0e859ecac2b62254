//! Arguments of load tests.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use countersign_engine::Algorithm;

use crate::load_test::TestKey;

/// A prepared purpose of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ServeProfile {
    /// Load tests: public keys, a corpus of tokens, and judged answers.
    Loadtest,
}

/// Arguments of `serve` for load tests.
#[derive(Args, Clone, Debug)]
pub struct LoadTestArgs {
    /// Serve a load test: with public keys instead of issuers of your own, and with the tokens for
    /// it at /corpus. /stats has the numbers of right and wrong answers.
    #[arg(long, value_enum)]
    pub profile: Option<ServeProfile>,
    /// Serve the load test on addresses other than loopback. Anyone can sign tokens for it.
    #[arg(long, requires = "profile")]
    pub allow_remote: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become the help text")]
    pub corpus: CorpusArgs,
}

/// The tokens of a load test.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct CorpusArgs {
    /// Signature algorithm of the tokens of the load test (default: RS256).
    #[arg(long, value_name = "NAME", value_parser = algorithm)]
    pub algorithm: Option<Algorithm>,
    /// Number of tokens of the load test (default: 1000).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub tokens: Option<u32>,
    /// Share of valid tokens of the load test, from 0 to 1 (default: 0.9).
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub valid: Option<f64>,
}

/// Commands for load tests.
#[derive(Debug, Subcommand)]
pub enum LoadTestCommand {
    /// Write the tokens of a load test, the same that the server has.
    #[command(after_help = "\
Writes corpus.tsv (kind, status, code, token and reason of each request), tokens.txt, expected.txt
(the status for each token), and jwks.json.

Example:
  countersign loadtest corpus --out corpus --algorithm EdDSA --tokens 5000")]
    Corpus {
        /// Output directory, created if missing.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        #[command(flatten)]
        #[expect(missing_docs, reason = "a doc comment here would become the help text")]
        corpus: CorpusArgs,
    },
}

fn algorithm(name: &str) -> Result<Algorithm, String> {
    let named = Algorithm::from_name(name).filter(|one| TestKey::ALGORITHMS.contains(one));
    named.ok_or_else(|| {
        let names: Vec<_> = TestKey::ALGORITHMS.iter().map(|one| one.name()).collect();
        format!("choose one of {}", names.join(", "))
    })
}

fn share(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "write a number from 0 to 1".into())
}
