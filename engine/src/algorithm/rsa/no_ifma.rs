//! The stand-in for the module `ifma` on processors that never have its instructions.

use super::montgomery::{LaneNumbers, LaneOperands, PowerOperands};

pub(super) fn is_available() -> bool {
    false
}

pub(super) fn power<const N: usize, const WIDE: usize>(
    _: &LaneOperands<'_, N>,
    _: u32,
) -> Option<LaneNumbers<N>> {
    None
}

pub(super) fn power_alone<const N: usize, const VECTORS: usize>(
    _: &PowerOperands<'_, N>,
    _: u32,
) -> Option<[u64; N]> {
    None
}
