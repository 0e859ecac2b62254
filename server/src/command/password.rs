//! Passwords, which are never arguments and never shown: typed on the terminal, or
//! lines of standard input.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};

/// Where passwords come from.
#[derive(Clone, Copy)]
pub(super) enum Passwords {
    /// A person types them.
    Terminal,
    /// They are lines of standard input.
    Lines,
}

impl Passwords {
    /// Standard input, if it was asked for or is no terminal.
    pub(super) fn choose(from_input: bool) -> Self {
        if from_input || !io::stdin().is_terminal() { Self::Lines } else { Self::Terminal }
    }

    /// One that is known already.
    pub(super) fn ask(self, prompt: &str) -> io::Result<String> {
        let password = match self {
            Self::Terminal => rpassword::prompt_password(prompt)?,
            Self::Lines => read_answer()?,
        };
        if password.is_empty() { Err(io::Error::other("no password was given")) } else { Ok(password) }
    }

    /// A new one, which is typed twice: nobody sees what they type.
    pub(super) fn ask_new(self, prompt: &str) -> io::Result<String> {
        let password = self.ask(prompt)?;
        if let Self::Terminal = self
            && rpassword::prompt_password("The same again: ")? != password
        {
            return Err(io::Error::other("these are two different passwords: try again"));
        }
        Ok(password)
    }
}

/// The next line of standard input without its end, otherwise untouched.
pub(super) fn read_answer() -> io::Result<String> {
    const MOST: u64 = 64 * 1024;
    let mut line = String::new();
    io::stdin().lock().take(MOST).read_line(&mut line)?;
    Ok(line.strip_suffix('\n').map_or(&*line, |line| line.strip_suffix('\r').unwrap_or(line)).into())
}
