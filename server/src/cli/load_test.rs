//! The profile `loadtest` of `countersign serve`, and `countersign loadtest`.

use std::{io, path::Path};

use serde_json::json;

use super::{
    CommandError, ConfigSource,
    arguments::{CorpusArgs, LoadTestArgs, LoadTestCommand},
    atomic_file, environment_variables, print, variable,
};
use crate::{
    config::{Config, Problem, Problems, load_raw, options::ISSUER_PREFIX},
    load_test::{Corpus, CorpusToken, TestKey, configuration, keys::TokenSigner as _},
    observe::answer_judge::TokenKind,
};

/// Runs a command.
pub(super) fn run(command: &LoadTestCommand) -> Result<(), CommandError> {
    let LoadTestCommand::Corpus { out, corpus } = command;
    write_corpus(out, corpus)
}

impl LoadTestArgs {
    /// Returns the arguments if they ask for the profile.
    ///
    /// # Errors
    /// They describe tokens without the profile.
    pub(super) fn selected(self) -> Result<Option<Self>, CommandError> {
        if self.profile.is_none() && self.corpus != CorpusArgs::default() {
            let text = "--algorithm, --tokens and --valid describe the tokens of a load test";
            let problem = Problem::error("serve", text).help("add --profile loadtest");
            return Err(Problems::from(problem).into());
        }
        Ok(self.profile.is_some().then_some(self))
    }
}

impl CorpusArgs {
    fn key(&self) -> Result<TestKey, CommandError> {
        let algorithm = self.algorithm.unwrap_or(TestKey::ALGORITHMS[0]);
        TestKey::new(algorithm).map_err(CommandError::failed)
    }

    /// Makes the tokens.
    pub(super) fn corpus(&self) -> Result<Corpus, CommandError> {
        const TOKENS: u32 = 1000;
        const VALID: f64 = 0.9;
        let count = usize::try_from(self.tokens.unwrap_or(TOKENS)).unwrap_or(usize::MAX);
        Corpus::new(&self.key()?, count, self.valid.unwrap_or(VALID)).map_err(CommandError::failed)
    }
}

/// Reads the configuration of the profile: files and environment without issuers, and the issuer of
/// the corpus.
///
/// # Errors
/// The configuration is invalid, has issuers of its own, or listens on more than loopback.
pub(super) fn read_config(
    source: &ConfigSource,
    arguments: &LoadTestArgs,
) -> Result<Config, CommandError> {
    let mut raw = load_raw(&source.files()?, environment_variables());
    for (name, section) in &raw.sections {
        if name.starts_with(ISSUER_PREFIX) {
            let place = [&section.place, name].into_iter().find(|place| !place.is_empty());
            let text = format!("--profile loadtest excludes issuers of your own ({name})");
            let problem = Problem::error(place.unwrap_or(name), text)
                .help("its keys are public: run load tests with a configuration without issuers");
            return Err(Problems::from(problem).into());
        }
    }
    for (section, option, text) in configuration::options(&arguments.corpus.key()?) {
        let given = raw.sections.get(section);
        if given.is_none_or(|given| !given.settings.contains_key(option)) {
            raw.set(section, option, text, "--profile loadtest");
        }
    }
    source.set_listen(&mut raw);
    let config = Config::from_raw(raw)?;
    if !arguments.allow_remote {
        check_addresses(&config)?;
    }
    Ok(config)
}

/// Refuses addresses that other machines can reach, because anyone can sign tokens for the server.
fn check_addresses(config: &Config) -> Result<(), CommandError> {
    const REASON: &str = "the keys of --profile loadtest are public, and this address is not \
                          loopback";
    const HELP: &str = "listen on 127.0.0.1 or on a Unix socket, or add --allow-remote";
    let refuse = |place: &str, address: &str| {
        let problem = Problem::error(place, format!("{REASON}: {address}")).help(HELP);
        Err(Problems::from(problem).into())
    };
    for listener in &config.settings.listeners {
        for address in listener.addresses.iter().filter_map(|address| address.address()) {
            if !address.ip().to_canonical().is_loopback() {
                return refuse(&listener.option, &address.to_string());
            }
        }
    }
    match variable("LISTEN_FDS")? {
        Some(_) => refuse("LISTEN_FDS", "sockets of systemd may have any address"),
        None => Ok(()),
    }
}

fn write_corpus(directory: &Path, arguments: &CorpusArgs) -> Result<(), CommandError> {
    let (corpus, key) = (arguments.corpus()?, arguments.key()?);
    let lines = |line: &dyn Fn(&CorpusToken) -> String| -> String {
        corpus.tokens.iter().map(|token| line(token) + "\n").collect()
    };
    let status = |kind: TokenKind| kind.expected().map_or(0, |(status, _)| status.as_u16());
    let files = [
        ("corpus.tsv", corpus.lines()),
        ("tokens.txt", lines(&|token| token.text.clone())),
        ("expected.txt", lines(&|token| status(token.kind).to_string())),
        ("jwks.json", format!("{:#}\n", json!({ "keys": [key.jwk()] }))),
    ];
    let named = |path: &Path, error: io::Error| {
        CommandError::failed(format_args!("{}: {error}", path.display()))
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .create(directory)
        .map_err(|error| named(directory, error))?;
    for (name, text) in files {
        let path = directory.join(name);
        atomic_file::replace(&path, &text, atomic_file::PUBLIC)
            .map_err(|error| named(&path, error))?;
    }
    print(format_args!("{} in {}", summary(&corpus), directory.display()))?;
    Ok(())
}

/// Returns a phrase with the numbers of the tokens of a corpus.
pub(super) fn summary(corpus: &Corpus) -> String {
    let valid = corpus.tokens.iter().filter(|token| token.kind == TokenKind::Valid).count();
    format!("{} {} tokens, {valid} of them valid", corpus.tokens.len(), corpus.algorithm)
}
