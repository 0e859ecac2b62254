//! What a client may do that is no use to anybody, before it is told to calm down.

use super::fault::{Http2Error, Http2ErrorCode};
use crate::clock::Stopwatch;

/// How many requests a client may take back, or send that are none, beyond the answers
/// that it has received.
const MAX_RESETS: u32 = 256;
/// How many of these it may in a second besides: a proxy takes back what its own clients
/// do not wait for, and cannot help it.
const RESETS_PER_SECOND: u32 = 200;
/// How many frames it may send that ask nothing and answer nothing.
const MAX_CONTROL_FRAMES: u32 = 8192;
/// How many of those come back with an answer.
const CONTROL_FRAMES_PER_RESPONSE: u32 = 32;

/// What is left of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct AbuseBudget {
    resets: u32,
    control_frames: u32,
    /// Since resets were last given for time.
    refilled: Stopwatch,
}

impl Default for AbuseBudget {
    fn default() -> Self {
        Self {
            resets: MAX_RESETS,
            control_frames: MAX_CONTROL_FRAMES,
            refilled: Stopwatch::start(),
        }
    }
}

impl AbuseBudget {
    /// A request was answered.
    pub(super) fn credit_response(&mut self) {
        self.resets = MAX_RESETS.min(self.resets + 1);
        self.control_frames =
            MAX_CONTROL_FRAMES.min(self.control_frames + CONTROL_FRAMES_PER_RESPONSE);
    }

    /// A request came to nothing, and was worth so many answers.
    ///
    /// # Errors
    /// It is one too many.
    pub(super) fn charge_request(&mut self, answers: u32) -> Result<(), Http2Error> {
        self.refill();
        self.resets = self.resets.saturating_sub(answers);
        match self.resets {
            0 => Err(Http2Error::new(
                Http2ErrorCode::EnhanceYourCalm,
                "too many requests are taken back, or are none",
            )),
            _ => Ok(()),
        }
    }

    /// Gives what time has brought.
    fn refill(&mut self) {
        let gained = self.refilled.elapsed().as_millis() * u128::from(RESETS_PER_SECOND) / 1000;
        if gained > 0 {
            self.refilled = Stopwatch::start();
            self.resets = MAX_RESETS
                .min(self.resets.saturating_add(u32::try_from(gained).unwrap_or(MAX_RESETS)));
        }
    }

    /// A frame came that changes nothing.
    ///
    /// # Errors
    /// It is one too many.
    pub(super) fn charge_control_frame(&mut self) -> Result<(), Http2Error> {
        self.control_frames = self.control_frames.saturating_sub(1);
        match self.control_frames {
            0 => Err(Http2Error::new(
                Http2ErrorCode::EnhanceYourCalm,
                "too many frames are about nothing",
            )),
            _ => Ok(()),
        }
    }
}
