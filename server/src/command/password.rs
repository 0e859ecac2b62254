//! PasswordInput, which are never arguments and never shown: typed on the terminal, or
//! lines of standard input.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal as _, Read as _, Write as _},
};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

/// Where passwords come from.
#[derive(Clone, Copy)]
pub(super) enum PasswordInput {
    /// A person types them.
    Terminal,
    /// They are lines of standard input.
    Lines,
}

impl PasswordInput {
    /// Standard input, if it was asked for or is no terminal.
    pub(super) fn choose(from_input: bool) -> Self {
        if from_input || !io::stdin().is_terminal() { Self::Lines } else { Self::Terminal }
    }

    /// One that is known already.
    pub(super) fn ask(self, prompt: &str) -> io::Result<String> {
        let password = match self {
            Self::Terminal => read_hidden(prompt)?,
            Self::Lines => read_answer()?,
        };
        if password.is_empty() {
            Err(io::Error::other("no password was given"))
        } else {
            Ok(password)
        }
    }

    /// A new one, which is typed twice: nobody sees what they type.
    pub(super) fn ask_new(self, prompt: &str) -> io::Result<String> {
        let password = self.ask(prompt)?;
        if let Self::Terminal = self
            && read_hidden("The same again: ")? != password
        {
            return Err(io::Error::other("these are two different passwords: try again"));
        }
        Ok(password)
    }
}

/// A line typed on the terminal, which shows nothing from before the prompt is there. What
/// was typed earlier has been seen, and is not taken.
fn read_hidden(prompt: &str) -> io::Result<String> {
    let mut terminal = File::options().read(true).write(true).open("/dev/tty")?;
    let usual = tcgetattr(&terminal)?;
    let mut silent = usual.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    // The end of the line is no secret, and what follows begins on another.
    silent.local_modes.insert(LocalModes::ECHONL);
    tcsetattr(&terminal, OptionalActions::Flush, &silent)?;
    let prompted = terminal.write_all(prompt.as_bytes());
    let line = prompted.and_then(|()| read_line(&mut BufReader::new(&terminal)));
    tcsetattr(&terminal, OptionalActions::Now, &usual)?;
    line
}

/// The next line of standard input.
pub(super) fn read_answer() -> io::Result<String> {
    read_line(&mut io::stdin().lock())
}

/// A line without its end, otherwise untouched.
fn read_line(input: &mut impl BufRead) -> io::Result<String> {
    const MAX_LINE_BYTES: u64 = 64 * 1024;
    let mut line = String::new();
    input.take(MAX_LINE_BYTES).read_line(&mut line)?;
    Ok(line
        .strip_suffix('\n')
        .map_or(&*line, |line| line.strip_suffix('\r').unwrap_or(line))
        .into())
}
