//! The servers under test, including ours: `bench/e2e/peers.toml`, and the configurations in
//! `bench/e2e/peers/`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{
    Result,
    corpus::{CredentialKind, ExpectedAnswers},
    process::{Server, free_port},
};

/// One server in one configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerServer {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Number of copies that share the load.
    #[serde(default = "one")]
    pub copies: usize,
    /// The configuration files it reads, from `bench/e2e/peers/`.
    #[serde(default)]
    pub files: Vec<String>,
    /// Further placeholders, without the `@` around them. Their values may contain those of all
    /// servers.
    #[serde(default)]
    pub values: BTreeMap<String, String>,
    /// The kinds that it rejects. It must allow all the others.
    #[serde(default)]
    pub refuses: Vec<CredentialKind>,
    /// The statuses that count as a rejection.
    #[serde(default = "unauthorized")]
    pub refusals: Vec<u16>,
}

fn one() -> usize {
    1
}

fn unauthorized() -> Vec<u16> {
    vec![401]
}

impl PeerServer {
    /// Returns the answers expected from this server.
    #[must_use]
    pub fn answers(&self) -> ExpectedAnswers {
        ExpectedAnswers { refuses: self.refuses.clone(), refusals: self.refusals.clone() }
    }
}

/// All servers of `peers.toml`, by name.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct PeerServers(BTreeMap<String, PeerServer>);

impl PeerServers {
    /// Reads `peers.toml` in this directory.
    ///
    /// # Errors
    /// The file cannot be read or parsed.
    pub fn read(directory: &Path) -> Result<Self> {
        Ok(toml::from_str(&std::fs::read_to_string(directory.join("peers.toml"))?)?)
    }

    /// Returns the server of this name.
    ///
    /// # Errors
    /// `peers.toml` has no such server.
    pub fn get(&self, name: &str) -> Result<&PeerServer> {
        Ok(self.0.get(name).ok_or_else(|| format!("no {name} in peers.toml"))?)
    }
}

/// Directories of the benchmark.
pub struct BenchPaths {
    /// `bench/e2e`.
    pub data: PathBuf,
    /// Directory of corpora, certificates, and the servers' state.
    pub work: PathBuf,
    /// Directory of our own programs.
    pub programs: PathBuf,
}

impl BenchPaths {
    /// Returns the directory of the corpus with this many good tokens.
    #[must_use]
    pub fn corpus(&self, tokens: usize) -> PathBuf {
        self.work.join(format!("corpus-{tokens}"))
    }

    /// Returns the directory of the corpus without good tokens.
    #[must_use]
    pub fn bad_corpus(&self) -> PathBuf {
        self.work.join("corpus-bad")
    }

    /// Returns the certificate of every server that uses TLS.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.work.join("certificate.pem")
    }

    /// Starts one copy of a server with the keys of this corpus, pinned to one core or on any.
    ///
    /// # Errors
    /// A file cannot be read or written, or the program cannot be started.
    pub fn start(
        &self,
        name: &str,
        peer: &PeerServer,
        copy: usize,
        tokens: usize,
        core: Option<usize>,
    ) -> Result<Server> {
        // The name without characters that a configuration would have to quote.
        let state = self.work.join("state").join(format!("{name}-{copy}").replace([',', ' '], "-"));
        std::fs::create_dir_all(&state)?;
        let (port, auth_port) = (free_port()?, free_port()?);
        let path = |path: &Path| path.display().to_string();
        let common = [
            ("PORT", port.to_string()),
            ("AUTH_PORT", auth_port.to_string()),
            ("STATE", path(&state)),
            ("CORPUS", path(&self.corpus(tokens))),
            ("WORK", path(&self.work)),
            ("PROGRAMS", path(&self.programs)),
            ("DATA", path(&self.data)),
        ];
        let own = peer.values.iter().map(|(name, value)| (name.as_str(), value.clone()));
        let placeholders: Vec<_> = own.chain(common).collect();
        let fill = |text: &str| {
            placeholders.iter().fold(text.to_owned(), |text, (name, value)| {
                text.replace(&format!("@{name}@"), value)
            })
        };
        for file in &peer.files {
            let text = std::fs::read_to_string(self.data.join("peers").join(file))?;
            std::fs::write(state.join(file), fill(&text))?;
        }
        let words: Vec<_> = peer.command.iter().map(|word| fill(word)).collect();
        Server::start(&words, port, core)
    }
}
