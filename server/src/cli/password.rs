//! Input of passwords, from the terminal without echo or from lines of standard input.
//! Passwords are never arguments.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal as _, Read as _, Write as _},
};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

/// Source of passwords.
#[derive(Clone, Copy)]
pub(super) enum PasswordInput {
    /// Typed on the terminal.
    Terminal,
    /// Lines of standard input.
    Lines,
}

impl PasswordInput {
    /// Chooses standard input if requested, or if it is not a terminal.
    pub(super) fn choose(from_input: bool) -> Self {
        if from_input || !io::stdin().is_terminal() { Self::Lines } else { Self::Terminal }
    }

    /// Reads an existing password.
    pub(super) fn ask(self, prompt: &str) -> io::Result<String> {
        let password = match self {
            Self::Terminal => read_hidden(prompt)?,
            Self::Lines => read_answer()?,
        };
        if password.is_empty() {
            Err(io::Error::other("the password is empty"))
        } else {
            Ok(password)
        }
    }

    /// Reads a new password. On the terminal it is typed twice, because there is no echo.
    pub(super) fn ask_new(self, prompt: &str) -> io::Result<String> {
        let password = self.ask(prompt)?;
        if let Self::Terminal = self
            && read_hidden("The same again: ")? != password
        {
            return Err(io::Error::other("the two passwords differ: try again"));
        }
        Ok(password)
    }
}

/// Reads a line from the terminal without echo. Echo is off before the prompt appears.
/// Earlier input was visible, so it is discarded.
fn read_hidden(prompt: &str) -> io::Result<String> {
    let mut terminal = File::options().read(true).write(true).open("/dev/tty")?;
    let usual = tcgetattr(&terminal)?;
    let mut silent = usual.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    // Echo the line feed, so that later output starts on a new line.
    silent.local_modes.insert(LocalModes::ECHONL);
    tcsetattr(&terminal, OptionalActions::Flush, &silent)?;
    let prompted = terminal.write_all(prompt.as_bytes());
    let line = prompted.and_then(|()| read_line(&mut BufReader::new(&terminal)));
    tcsetattr(&terminal, OptionalActions::Now, &usual)?;
    line
}

/// Reads the next line of standard input.
pub(super) fn read_answer() -> io::Result<String> {
    read_line(&mut io::stdin().lock())
}

/// Reads a line without its line ending, otherwise unchanged.
fn read_line(input: &mut impl BufRead) -> io::Result<String> {
    const MAX_LINE_BYTES: u64 = 64 * 1024;
    let mut line = String::new();
    input.take(MAX_LINE_BYTES).read_line(&mut line)?;
    Ok(line
        .strip_suffix('\n')
        .map_or(&*line, |line| line.strip_suffix('\r').unwrap_or(line))
        .into())
}
