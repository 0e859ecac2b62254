//! Whom we measure, ourselves included: `bench/e2e/peers.toml`, and the configurations
//! in `bench/e2e/peers/`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{
    Result,
    corpus::{Answers, Kind},
    process::{Server, free_port},
};

/// One server in one configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// How many of it there are, to share the load.
    #[serde(default = "one")]
    pub copies: usize,
    /// The configurations it reads, out of `bench/e2e/peers/`.
    #[serde(default)]
    pub files: Vec<String>,
    /// What it refuses. It allows all the rest, and is held to that too.
    #[serde(default)]
    pub refuses: Vec<Kind>,
    /// The statuses that are a refusal.
    #[serde(default = "unauthorized")]
    pub refusals: Vec<u16>,
}

fn one() -> usize {
    1
}

fn unauthorized() -> Vec<u16> {
    vec![401]
}

impl Peer {
    /// How it is expected to answer.
    #[must_use]
    pub fn answers(&self) -> Answers {
        Answers { refuses: self.refuses.clone(), refusals: self.refusals.clone() }
    }
}

/// All that are known, by name.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct Peers(BTreeMap<String, Peer>);

impl Peers {
    /// Reads `peers.toml` in this directory.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(directory: &Path) -> Result<Self> {
        Ok(toml::from_str(&std::fs::read_to_string(directory.join("peers.toml"))?)?)
    }

    /// The one of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn get(&self, name: &str) -> Result<&Peer> {
        Ok(self.0.get(name).ok_or_else(|| format!("no {name} in peers.toml"))?)
    }
}

/// Where things are.
pub struct Places {
    /// `bench/e2e`.
    pub data: PathBuf,
    /// Where corpora and certificates were made, and servers may write.
    pub work: PathBuf,
    /// Our own programs.
    pub programs: PathBuf,
}

impl Places {
    /// The directory of the corpus with so many good tokens.
    #[must_use]
    pub fn corpus(&self, tokens: usize) -> PathBuf {
        self.work.join(format!("corpus-{tokens}"))
    }

    /// The directory of the corpus that has no good token.
    #[must_use]
    pub fn bad_corpus(&self) -> PathBuf {
        self.work.join("corpus-bad")
    }

    /// The certificate of every server that speaks TLS.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.work.join("certificate.pem")
    }

    /// Starts one copy of a server with the keys of this corpus, on one core or on any.
    ///
    /// # Errors
    /// A file cannot be read or written, or the program cannot be started.
    pub fn start(
        &self,
        name: &str,
        peer: &Peer,
        copy: usize,
        tokens: usize,
        core: Option<usize>,
    ) -> Result<Server> {
        // The name without what would have to be quoted in a configuration.
        let state = self.work.join("state").join(format!("{name}-{copy}").replace([',', ' '], "-"));
        std::fs::create_dir_all(&state)?;
        let port = free_port()?;
        let fill = |text: &str| {
            let path = |path: &Path| path.display().to_string();
            let places = [
                ("@PORT@", port.to_string()),
                ("@STATE@", path(&state)),
                ("@CORPUS@", path(&self.corpus(tokens))),
                ("@WORK@", path(&self.work)),
                ("@PROGRAMS@", path(&self.programs)),
            ];
            places
                .into_iter()
                .fold(text.to_owned(), |text, (name, value)| text.replace(name, &value))
        };
        for file in &peer.files {
            let text = std::fs::read_to_string(self.data.join("peers").join(file))?;
            std::fs::write(state.join(file), fill(&text))?;
        }
        let words: Vec<_> = peer.command.iter().map(|word| fill(word)).collect();
        Server::start(&words, port, core)
    }
}
