//! What a client may do that is no use to anybody, before it is told to calm down.

use super::fault::{Code, Fault};
use crate::clock::Stopwatch;

/// How many requests a client may take back, or send that are none, beyond the answers
/// that it has received.
const RESETS: u32 = 256;
/// How many of these it may in a second besides: a proxy takes back what its own clients
/// do not wait for, and cannot help it.
const RESETS_A_SECOND: u32 = 200;
/// How many frames it may send that ask nothing and answer nothing.
const CHATTER: u32 = 8192;
/// How many of those come back with an answer.
const CHATTER_OF_ANSWER: u32 = 32;

/// What is left of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    resets: u32,
    chatter: u32,
    /// Since resets were last given for time.
    given: Stopwatch,
}

impl Default for Patience {
    fn default() -> Self {
        Self { resets: RESETS, chatter: CHATTER, given: Stopwatch::start() }
    }
}

impl Patience {
    /// A request was answered.
    pub(super) fn earn(&mut self) {
        self.resets = RESETS.min(self.resets + 1);
        self.chatter = CHATTER.min(self.chatter + CHATTER_OF_ANSWER);
    }

    /// A request came to nothing, and was worth so many answers.
    ///
    /// # Errors
    /// It is one too many.
    pub(super) fn lose(&mut self, answers: u32) -> Result<(), Fault> {
        self.give();
        self.resets = self.resets.saturating_sub(answers);
        match self.resets {
            0 => Err(Fault::new(
                Code::EnhanceYourCalm,
                "too many requests are taken back, or are none",
            )),
            _ => Ok(()),
        }
    }

    /// Gives what time has brought.
    fn give(&mut self) {
        let gained = self.given.elapsed().as_millis() * u128::from(RESETS_A_SECOND) / 1000;
        if gained > 0 {
            self.given = Stopwatch::start();
            self.resets =
                RESETS.min(self.resets.saturating_add(u32::try_from(gained).unwrap_or(RESETS)));
        }
    }

    /// A frame came that changes nothing.
    ///
    /// # Errors
    /// It is one too many.
    pub(super) fn hear_chatter(&mut self) -> Result<(), Fault> {
        self.chatter = self.chatter.saturating_sub(1);
        match self.chatter {
            0 => Err(Fault::new(Code::EnhanceYourCalm, "too many frames are about nothing")),
            _ => Ok(()),
        }
    }
}
