//! One modular power, with the limbs of a number side by side in the lanes of vectors.
//!
//! It takes a fraction of the time of eight powers in lanes, and more than an eighth of it. So it
//! is for signatures that are alone.
//!
//! # Why no carry is lost
//! Each step multiplies by one limb, adds a multiple of the modulus that clears the lowest column,
//! and moves all columns down by one. A column gets at most four halves of products in each of N
//! steps, so it stays below 4 * N * 2^52 < 2^61, as in the [module above](super). The lowest column
//! also exists as an integer, since the next quotient digit depends on it: it gets the carry, below
//! 2^10, and stays below 2^62 with the products that are added to it.

use core::arch::x86_64::{
    __m512i, _mm_extract_epi64, _mm512_alignr_epi64, _mm512_castsi512_si128, _mm512_set1_epi64,
    _mm512_setzero_si512,
};

use super::{
    super::montgomery::{PowerOperands, subtract_if_not_below},
    LANES, MASK, array_of, high, low, vector_of,
};

/// The lower 52 bits.
const LIMB: u64 = MASK.cast_unsigned();

/// A modulus, in vectors and as limbs.
struct AloneModulus<'m, const N: usize, const VECTORS: usize> {
    vectors: [__m512i; VECTORS],
    limbs: &'m [u64; N],
    /// -1 / n modulo 2^52.
    inverse: u64,
}

/// Returns the base to the power of `2^squarings + 1`, below the modulus. `VECTORS` vectors have at
/// least N lanes.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn power<const N: usize, const VECTORS: usize>(
    operands: &PowerOperands<'_, N>,
    squarings: u32,
) -> [u64; N] {
    let PowerOperands { base, modulus: limbs, square_of_r, inverse } = operands;
    let modulus =
        AloneModulus { vectors: side_by_side::<N, VECTORS>(limbs), limbs, inverse: *inverse };
    // To the Montgomery form: base * R.
    let mut power = product(base, square_of_r, &modulus);
    for _ in 0..squarings {
        power = product(&power, &power, &modulus);
    }
    // The product with the base itself also leaves the Montgomery form.
    power = product(base, &power, &modulus);
    subtract_if_not_below(&mut power, *limbs);
    power
}

/// Returns a number below `2 * n` that is congruent to `one * other / R`, for factors below `2 * n`.
#[target_feature(enable = "avx512f,avx512ifma")]
fn product<const N: usize, const VECTORS: usize>(
    one: &[u64; N],
    other: &[u64; N],
    modulus: &AloneModulus<'_, N, VECTORS>,
) -> [u64; N] {
    let factor = side_by_side::<N, VECTORS>(one);
    let mut columns = [_mm512_setzero_si512(); VECTORS];
    let mut lowest = 0u64;
    for limb in other {
        let lowest_product = u128::from(one[0]) * u128::from(*limb);
        lowest += lower(lowest_product);
        let digit = lowest.wrapping_mul(modulus.inverse) & LIMB;
        let digit_product = u128::from(digit) * u128::from(modulus.limbs[0]);
        let (limbs, digits) = (all_lanes(*limb), all_lanes(digit));
        for (column, (factor, n)) in columns.iter_mut().zip(factor.iter().zip(&modulus.vectors)) {
            *column = low(low(*column, *factor, limbs), *n, digits);
        }
        let second = _mm_extract_epi64::<1>(_mm512_castsi512_si128(columns[0])).cast_unsigned();
        columns = moved_down(columns);
        for (column, (factor, n)) in columns.iter_mut().zip(factor.iter().zip(&modulus.vectors)) {
            *column = high(high(*column, *factor, limbs), *n, digits);
        }
        // The lower half of the digit's product makes the lowest column a multiple of 2^52: its
        // carry is that column divided by 2^52, rounded up.
        let carry = (lowest + LIMB) >> 52;
        lowest = second + carry + upper(lowest_product) + upper(digit_product);
    }
    normalized(columns, lowest)
}

/// Returns the limbs of columns, with `lowest` in place of the first.
#[target_feature(enable = "avx512f,avx512ifma")]
fn normalized<const N: usize, const VECTORS: usize>(
    columns: [__m512i; VECTORS],
    lowest: u64,
) -> [u64; N] {
    let mut columns = columns.map(array_of);
    columns[0][0] = lowest;
    let (mut limbs, mut carry) = ([0; N], 0);
    for (limb, column) in limbs.iter_mut().zip(columns.as_flattened()) {
        let sum = column + carry;
        (*limb, carry) = (sum & LIMB, sum >> 52);
    }
    // The number is below 2 * n < R, so the last carry is zero.
    limbs
}

/// Moves each column to the place of the one below it.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn moved_down<const VECTORS: usize>(columns: [__m512i; VECTORS]) -> [__m512i; VECTORS] {
    let mut moved = [_mm512_setzero_si512(); VECTORS];
    for index in 0..VECTORS {
        let above = if index + 1 < VECTORS { columns[index + 1] } else { _mm512_setzero_si512() };
        moved[index] = _mm512_alignr_epi64::<1>(above, columns[index]);
    }
    moved
}

/// Puts the limbs of a number side by side. Lanes without a limb are zero.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn side_by_side<const N: usize, const VECTORS: usize>(number: &[u64; N]) -> [__m512i; VECTORS] {
    let mut lanes = [[0; LANES]; VECTORS];
    lanes.as_flattened_mut()[..N].copy_from_slice(number);
    core::array::from_fn(|index| vector_of(lanes[index]))
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn all_lanes(limb: u64) -> __m512i {
    _mm512_set1_epi64(limb.cast_signed())
}

/// The lower 52 bits of a product of two limbs.
#[inline]
#[cfg_attr(not(test), expect(clippy::as_conversions, reason = "the lower bits"))]
fn lower(product: u128) -> u64 {
    product as u64 & LIMB
}

/// The upper 52 bits of a product of two limbs.
#[inline]
#[cfg_attr(not(test), expect(clippy::as_conversions, reason = "it has 104 bits"))]
fn upper(product: u128) -> u64 {
    (product >> 52) as u64
}
