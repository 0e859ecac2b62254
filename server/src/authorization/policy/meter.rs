//! The cost of the calls of built-in functions in one evaluation.
//!
//! Cost is counted in bytes, of results or of time: a byte stands for about a nanosecond.

use std::{cell::Cell, time::Duration};

use regorus::{LimitError, utils::limits::monotonic_now};

/// Maximum cost of one call: about 4 ms, and 4 MiB of memory.
pub(super) const MAX_CALL_COST: u64 = 4 << 20;

/// Maximum cost of all calls in an evaluation.
const MAX_COST: u64 = 64 << 20;

thread_local! {
    static SPENT: Cell<u64> = const { Cell::new(0) };
    static DEADLINE: Cell<Option<EvaluationDeadline>> = const { Cell::new(None) };
}

#[derive(Clone, Copy)]
struct EvaluationDeadline {
    start: Duration,
    limit: Duration,
}

/// Begins an evaluation on this thread, which may take `limit`.
pub(super) fn start(limit: Duration) {
    SPENT.set(0);
    DEADLINE.set(monotonic_now().map(|start| EvaluationDeadline { start, limit }));
}

/// Charges the cost of a call: at most [`MAX_CALL_COST`], and [`MAX_COST`] with those before it.
///
/// # Errors
/// The call or the evaluation is too expensive, or the time is over.
pub(super) fn charge(cost: u64) -> Result<(), LimitError> {
    let spent = SPENT.get().saturating_add(cost);
    SPENT.set(spent);
    for (usage, limit) in [(cost, MAX_CALL_COST), (spent, MAX_COST)] {
        if usage > limit {
            return Err(LimitError::MemoryLimitExceeded { usage, limit });
        }
    }
    let (Some(EvaluationDeadline { start, limit }), Some(now)) = (DEADLINE.get(), monotonic_now())
    else {
        return Ok(());
    };
    let elapsed = now.saturating_sub(start);
    if elapsed > limit { Err(LimitError::TimeLimitExceeded { elapsed, limit }) } else { Ok(()) }
}
