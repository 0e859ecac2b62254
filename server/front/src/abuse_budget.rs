//! Abuse budgets of HTTP/2 and HTTP/3. Exhausting one closes the connection with ENHANCE_YOUR_CALM
//! or H3_EXCESSIVE_LOAD.

use crate::clock::Stopwatch;

/// Requests that a client may reset or send malformed, in excess of the responses it has received.
/// Bounds rapid reset (CVE-2023-44487).
const MAX_RESETS: u32 = 256;
/// Resets that are refilled per second, independent of responses. A proxy forwards the resets of
/// its own clients and cannot avoid them.
const RESETS_PER_SECOND: u32 = 200;
/// Frames that a client may send which neither carry a request nor make progress on a response.
const MAX_CONTROL_FRAMES: u32 = 8192;
/// Control frames that each completed response refills.
const CONTROL_FRAMES_PER_RESPONSE: u32 = 32;

/// The budgets that remain to one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AbuseBudget {
    resets: u32,
    control_frames: u32,
    /// Time since resets were last refilled.
    refilled: Stopwatch,
}

/// Error of charging a budget that is exhausted, with the reason.
pub(crate) struct BudgetExhausted(pub(crate) &'static str);

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
    /// Refills both budgets: a response was completed.
    pub(crate) fn credit_response(&mut self) {
        self.resets = MAX_RESETS.min(self.resets + 1);
        self.control_frames =
            MAX_CONTROL_FRAMES.min(self.control_frames + CONTROL_FRAMES_PER_RESPONSE);
    }

    /// Charges a request that was reset or malformed, at the price of that many responses.
    ///
    /// # Errors
    /// The budget is exhausted.
    pub(crate) fn charge_request<E: From<BudgetExhausted>>(
        &mut self,
        responses: u32,
    ) -> Result<(), E> {
        self.refill();
        self.resets = self.resets.saturating_sub(responses);
        match self.resets {
            0 => Err(BudgetExhausted("too many requests were reset or malformed").into()),
            _ => Ok(()),
        }
    }

    /// Refills resets by the time that has passed.
    fn refill(&mut self) {
        let gained = self.refilled.elapsed().as_millis() * u128::from(RESETS_PER_SECOND) / 1000;
        if gained > 0 {
            self.refilled = Stopwatch::start();
            self.resets = MAX_RESETS
                .min(self.resets.saturating_add(u32::try_from(gained).unwrap_or(MAX_RESETS)));
        }
    }

    /// Charges a frame that makes no progress.
    ///
    /// # Errors
    /// The budget is exhausted.
    pub(crate) fn charge_control_frame<E: From<BudgetExhausted>>(&mut self) -> Result<(), E> {
        self.control_frames = self.control_frames.saturating_sub(1);
        match self.control_frames {
            0 => Err(BudgetExhausted("too many control frames").into()),
            _ => Ok(()),
        }
    }
}
