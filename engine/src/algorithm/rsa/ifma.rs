//! Eight modular powers at once, with the 52-bit multiply-add of AVX-512 IFMA.
//!
//! Each of the eight 64-bit lanes of a vector belongs to one signature, so lanes never exchange
//! data, and each has a modulus of its own. A number is an array of vectors, one for each limb of
//! 52 bits, least significant first. Nothing here is secret: signatures and public keys are public.
//!
//! # Why no carry is lost
//! `madd52` adds the lower or upper half of a product of two 52-bit numbers to a 64-bit number. It
//! ignores higher bits of its factors and overflows silently, so two bounds must hold:
//!
//! - Factors are below 2^52. They are limbs of inputs, limbs of a result of [`reduce`], which masks
//!   them, or quotient digits, which `madd52` itself may truncate: only their lower 52 bits count.
//! - Columns are below 2^64. With N limbs, a column of a product gets at most N lower and N upper
//!   halves, each at most 2^52 - 1. The square adds the same halves, those of mixed terms twice.
//!   The reduction adds N lower and N upper halves again, and one carry of at most 4 * N + 1. With
//!   N <= 80, this is below 320 * 2^52 + 322 < 2^61.
//!
//! # Why one subtraction is enough
//! R is 2^(52 * N), and the modulus n is below R / 2^32 for all three sizes. [`reduce`] turns the
//! product of a and b into (a * b + q * n) / R with q < R, which is below n + a * b / R. If both
//! are below 2 * n, the result is below n + 4 * n^2 / R < 2 * n. So are all intermediate results,
//! and the last is reduced by at most one subtraction of n.

#![expect(unsafe_code, reason = "vectors of arrays, and calls that need the instructions")]
#![cfg_attr(
    not(test),
    expect(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        reason = "indexes depend on constants only, never on input, and the tests run all of them"
    )
)]

use core::arch::x86_64::{
    __m512i, _mm512_add_epi64, _mm512_and_si512, _mm512_cmpeq_epi64_mask, _mm512_madd52hi_epu64,
    _mm512_madd52lo_epu64, _mm512_mask_blend_epi64, _mm512_set1_epi64, _mm512_setzero_si512,
    _mm512_srli_epi64, _mm512_sub_epi64,
};

use super::montgomery::{LANES, LaneNumbers, LaneOperands, PowerOperands};

mod alone;

/// Limbs that are multiplied by all others in one pass. So many limbs and columns fit into the 32
/// vector registers. Divides the number of limbs of every size.
const BLOCK: usize = 10;

/// The lower 52 bits.
const MASK: i64 = (1 << 52) - 1;

/// Repeats a block for each index of a [`BLOCK`], as constants: the compiler does not unroll loops
/// of this size by itself, and arrays with variable indexes are not kept in registers.
macro_rules! for_each_of_block {
    ($index:ident, $body:block) => {
        for_each_of_block!($index, $body, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
    };
    ($index:ident, $body:block, $($constant:literal),*) => {{
        $( { let $index: usize = $constant; $body } )*
    }};
}

/// Whether the processor has the instructions, and the system saves their registers.
pub(super) fn is_available() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512ifma")
}

/// Returns the bases to the power of `2^squarings + 1`, each below its modulus; `None` without the
/// instructions. `WIDE` is twice the number of limbs.
pub(super) fn power<const N: usize, const WIDE: usize>(
    operands: &LaneOperands<'_, N>,
    squarings: u32,
) -> Option<LaneNumbers<N>> {
    const { assert!(N.is_multiple_of(BLOCK) && N <= 80 && WIDE == 2 * N && LANES == 8) };
    if !is_available() {
        return None;
    }
    // SAFETY: The processor has the instructions.
    Some(unsafe { power_in_lanes::<N, WIDE>(operands, squarings) })
}

/// Returns one base to the power of `2^squarings + 1`, below its modulus; `None` without the
/// instructions. `VECTORS` vectors have at least N lanes.
pub(super) fn power_alone<const N: usize, const VECTORS: usize>(
    operands: &PowerOperands<'_, N>,
    squarings: u32,
) -> Option<[u64; N]> {
    const { assert!(N <= 80 && N <= LANES * VECTORS && VECTORS > 0) };
    if !is_available() {
        return None;
    }
    // SAFETY: The processor has the instructions.
    Some(unsafe { alone::power::<N, VECTORS>(operands, squarings) })
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn power_in_lanes<const N: usize, const WIDE: usize>(
    operands: &LaneOperands<'_, N>,
    squarings: u32,
) -> LaneNumbers<N> {
    let base = in_lanes(operands.bases.each_ref());
    let modulus =
        LaneModulus { limbs: in_lanes(operands.moduli), inverse: vector_of(operands.inverses) };
    let zero = _mm512_setzero_si512();
    let (mut columns, mut power) = ([zero; WIDE], [zero; N]);
    // To the Montgomery form: base * R.
    multiply(&mut columns, &base, &in_lanes(operands.squares_of_r));
    reduce(&mut columns, &modulus, &mut power);
    for _ in 0..squarings {
        square(&mut columns, &power);
        reduce(&mut columns, &modulus, &mut power);
    }
    // The product with the base itself also leaves the Montgomery form.
    multiply(&mut columns, &base, &power);
    reduce(&mut columns, &modulus, &mut power);
    below_modulus(&mut power, &modulus.limbs);
    power.map(array_of)
}

/// The moduli of all lanes.
struct LaneModulus<const N: usize> {
    limbs: [__m512i; N],
    /// -1 / n modulo 2^52.
    inverse: __m512i,
}

/// Sets `columns` to the product of two numbers, without carries.
#[target_feature(enable = "avx512f,avx512ifma")]
fn multiply<const N: usize, const WIDE: usize>(
    columns: &mut [__m512i; WIDE],
    one: &[__m512i; N],
    other: &[__m512i; N],
) {
    columns[..BLOCK].fill(_mm512_setzero_si512());
    for (index, block) in one.as_chunks::<BLOCK>().0.iter().enumerate() {
        let first = index * BLOCK;
        if first == 0 {
            add_products::<true>(columns, first, block, other);
        } else {
            columns[N + first..][..BLOCK].fill(_mm512_setzero_si512());
            add_products::<false>(columns, first, block, other);
        }
    }
}

/// Sets `columns` to the square of a number, without carries: the products of two different limbs,
/// doubled, and the squares of limbs. The doubled sums are those of the product, so their bound is
/// the same.
#[target_feature(enable = "avx512f,avx512ifma")]
fn square<const N: usize, const WIDE: usize>(columns: &mut [__m512i; WIDE], number: &[__m512i; N]) {
    columns[..2 * BLOCK].fill(_mm512_setzero_si512());
    for (index, block) in number.as_chunks::<BLOCK>().0.iter().enumerate() {
        let first = index * BLOCK;
        let others = &number[first + BLOCK..];
        if first == 0 {
            add_products_within(columns, 0, block);
            add_products::<true>(columns, BLOCK, block, others);
        } else {
            columns[N + first..][..BLOCK].fill(_mm512_setzero_si512());
            add_products_within(columns, 2 * first, block);
            add_products::<false>(columns, 2 * first + BLOCK, block, others);
        }
    }
    for (pair, limb) in columns.as_chunks_mut::<2>().0.iter_mut().zip(number) {
        pair[0] = low(_mm512_add_epi64(pair[0], pair[0]), *limb, *limb);
        pair[1] = high(_mm512_add_epi64(pair[1], pair[1]), *limb, *limb);
    }
}

/// Adds the products of two different limbs of a block to the columns from `first`.
#[target_feature(enable = "avx512f,avx512ifma")]
fn add_products_within(columns: &mut [__m512i], first: usize, block: &[__m512i; BLOCK]) {
    let mut sums = [_mm512_setzero_si512(); 2 * BLOCK];
    sums.copy_from_slice(&columns[first..first + 2 * BLOCK]);
    for_each_of_block!(i, {
        for_each_of_block!(j, {
            if i < j {
                sums[i + j] = low(sums[i + j], block[i], block[j]);
                sums[i + j + 1] = high(sums[i + j + 1], block[i], block[j]);
            }
        });
    });
    columns[first..first + 2 * BLOCK].copy_from_slice(&sums);
}

/// Adds the products of a block and other limbs to the columns from `first`.
///
/// A window of eleven sums moves over the columns. At each limb, the lowest sum is complete and
/// leaves the window, and the next column enters it. With `FRESH`, only the first columns of a block
/// have been written, and zeros enter: clearing all columns beforehand takes longer.
#[target_feature(enable = "avx512f,avx512ifma")]
fn add_products<const FRESH: bool>(
    columns: &mut [__m512i],
    first: usize,
    block: &[__m512i; BLOCK],
    limbs: &[__m512i],
) {
    let columns = &mut columns[first..first + limbs.len() + BLOCK];
    let mut window = [_mm512_setzero_si512(); BLOCK];
    window.copy_from_slice(&columns[..BLOCK]);
    let [mut s0, mut s1, mut s2, mut s3, mut s4, mut s5, mut s6, mut s7, mut s8, mut s9] = window;
    for (index, limb) in limbs.iter().enumerate() {
        let entering = if FRESH { _mm512_setzero_si512() } else { columns[index + BLOCK] };
        let mut sums = [s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, entering];
        for_each_of_block!(i, {
            sums[i] = low(sums[i], block[i], *limb);
            sums[i + 1] = high(sums[i + 1], block[i], *limb);
        });
        [columns[index], s0, s1, s2, s3, s4, s5, s6, s7, s8, s9] = sums;
    }
    columns[limbs.len()..].copy_from_slice(&[s0, s1, s2, s3, s4, s5, s6, s7, s8, s9]);
}

/// Sets `result` to a number that is congruent to `columns` / R and below 2 * n, as limbs of 52
/// bits. `columns` is the product of two numbers below 2 * n.
#[target_feature(enable = "avx512f,avx512ifma")]
fn reduce<const N: usize, const WIDE: usize>(
    columns: &mut [__m512i; WIDE],
    modulus: &LaneModulus<N>,
    result: &mut [__m512i; N],
) {
    let mut carry = _mm512_setzero_si512();
    let (lowest, rest) = modulus.limbs.split_at(BLOCK);
    for index in 0..N / BLOCK {
        let first = index * BLOCK;
        let quotient = clear_block(&columns[first..first + BLOCK], &mut carry, lowest, modulus);
        add_upper_products(&mut columns[first + BLOCK..][..BLOCK], &quotient, lowest);
        add_products::<false>(columns, first + BLOCK, &quotient, rest);
    }
    for (limb, column) in result.iter_mut().zip(&columns[N..]) {
        let sum = _mm512_add_epi64(*column, carry);
        *limb = _mm512_and_si512(sum, _mm512_set1_epi64(MASK));
        carry = _mm512_srli_epi64::<52>(sum);
    }
    // The result is below 2 * n < R, so the last carry is zero.
}

/// Returns the digits q for which adding q * n clears these columns, modulo 2^(52 * BLOCK). The
/// columns themselves are not written again. `carry` is added to the first column, and becomes the
/// carry out of the last.
#[target_feature(enable = "avx512f,avx512ifma")]
fn clear_block<const N: usize>(
    columns: &[__m512i],
    carry: &mut __m512i,
    lowest: &[__m512i],
    modulus: &LaneModulus<N>,
) -> [__m512i; BLOCK] {
    let zero = _mm512_setzero_si512();
    let (mut sums, mut quotient, mut n) = ([zero; BLOCK], [zero; BLOCK], [zero; BLOCK]);
    sums.copy_from_slice(columns);
    n.copy_from_slice(lowest);
    sums[0] = _mm512_add_epi64(sums[0], *carry);
    for_each_of_block!(i, {
        quotient[i] = low(zero, sums[i], modulus.inverse);
        if i + 1 < BLOCK {
            // Two short chains of additions: the next digit waits for this sum.
            let upper = high(carry_of_cleared(sums[i]), quotient[i], n[0]);
            sums[i + 1] = _mm512_add_epi64(low(sums[i + 1], quotient[i], n[1]), upper);
        }
        for_each_of_block!(j, {
            if j > 1 && i + j < BLOCK {
                sums[i + j] = low(sums[i + j], quotient[i], n[j]);
                sums[i + j] = high(sums[i + j], quotient[i], n[j - 1]);
            }
        });
    });
    *carry = carry_of_cleared(sums[BLOCK - 1]);
    quotient
}

/// Returns the carry out of a column after q * n is added. The lower half of q * n0, which is below
/// 2^52, makes the sum a multiple of 2^52. So it need not be added: the carry is the sum divided by
/// 2^52, rounded up.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn carry_of_cleared(sum: __m512i) -> __m512i {
    _mm512_srli_epi64::<52>(_mm512_add_epi64(sum, _mm512_set1_epi64(MASK)))
}

/// Adds those products of a quotient block and the lowest limbs of the modulus that are above the
/// block.
#[target_feature(enable = "avx512f,avx512ifma")]
fn add_upper_products(columns: &mut [__m512i], quotient: &[__m512i; BLOCK], lowest: &[__m512i]) {
    let zero = _mm512_setzero_si512();
    let (mut sums, mut n) = ([zero; BLOCK], [zero; BLOCK]);
    sums.copy_from_slice(columns);
    n.copy_from_slice(lowest);
    for_each_of_block!(j, {
        for_each_of_block!(i, {
            if i + j >= BLOCK {
                sums[i + j - BLOCK] = low(sums[i + j - BLOCK], quotient[i], n[j]);
            }
            if i + j + 1 >= BLOCK {
                sums[i + j + 1 - BLOCK] = high(sums[i + j + 1 - BLOCK], quotient[i], n[j]);
            }
        });
    });
    columns.copy_from_slice(&sums);
}

/// Subtracts the modulus from a number below twice the modulus, unless the number is smaller.
#[target_feature(enable = "avx512f,avx512ifma")]
fn below_modulus<const N: usize>(number: &mut [__m512i; N], modulus: &[__m512i; N]) {
    let mut difference = [_mm512_setzero_si512(); N];
    let mut borrow = _mm512_setzero_si512();
    for (limb, (one, other)) in difference.iter_mut().zip(number.iter().zip(modulus)) {
        let signed = _mm512_sub_epi64(_mm512_sub_epi64(*one, *other), borrow);
        *limb = _mm512_and_si512(signed, _mm512_set1_epi64(MASK));
        borrow = _mm512_srli_epi64::<63>(signed);
    }
    let is_difference = _mm512_cmpeq_epi64_mask(borrow, _mm512_setzero_si512());
    for (limb, difference) in number.iter_mut().zip(difference) {
        *limb = _mm512_mask_blend_epi64(is_difference, *limb, difference);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn low(sum: __m512i, one: __m512i, other: __m512i) -> __m512i {
    _mm512_madd52lo_epu64(sum, one, other)
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn high(sum: __m512i, one: __m512i, other: __m512i) -> __m512i {
    _mm512_madd52hi_epu64(sum, one, other)
}

/// Puts one number into each lane.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn in_lanes<const N: usize>(numbers: [&[u64; N]; LANES]) -> [__m512i; N] {
    core::array::from_fn(|limb| vector_of(numbers.map(|number| number[limb])))
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn vector_of(lanes: [u64; LANES]) -> __m512i {
    // SAFETY: Both are 64 bytes without padding, and all values are valid in both.
    unsafe { core::mem::transmute::<[u64; LANES], __m512i>(lanes) }
}

#[inline]
fn array_of(vector: __m512i) -> [u64; LANES] {
    // SAFETY: As above.
    unsafe { core::mem::transmute::<__m512i, [u64; LANES]>(vector) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithm::rsa::differential::has_lanes;

    /// The columns of a product of numbers whose limbs are all 2^52 - 1: the largest there are. The
    /// halves of a product of two such limbs are 1 and 2^52 - 2.
    fn largest_columns<const WIDE: usize>() -> [u64; WIDE] {
        let pairs = |column: usize| match column {
            usize::MAX => 0,
            _ => u64::try_from((column + 1).min(WIDE - 1 - column)).unwrap(),
        };
        core::array::from_fn(|column| {
            pairs(column) + pairs(column.wrapping_sub(1)) * ((1 << 52) - 2)
        })
    }

    fn check_largest_columns<const N: usize, const WIDE: usize>() {
        #[target_feature(enable = "avx512f,avx512ifma")]
        fn columns<const N: usize, const WIDE: usize>() -> [LaneNumbers<WIDE>; 2] {
            let number = [_mm512_set1_epi64(MASK); N];
            let mut columns = [[_mm512_setzero_si512(); WIDE]; 2];
            multiply(&mut columns[0], &number, &number);
            square(&mut columns[1], &number);
            columns.map(|columns| columns.map(array_of))
        }
        // SAFETY: The processor has the instructions.
        let [products, squares] = unsafe { columns::<N, WIDE>() };
        let expected = largest_columns::<WIDE>();
        let expected_lanes = expected.map(|column| [column; LANES]);
        assert_eq!((products, squares), (expected_lanes, expected_lanes));
        let limbs = u64::try_from(N).unwrap();
        // At most 2 * N halves, and as many again and a carry in the reduction.
        let bound = 2 * limbs * ((1 << 52) - 1);
        assert!(expected.iter().all(|column| *column <= bound));
        assert!(2 * bound + 4 * limbs + 1 < 1 << 61);
    }

    #[test]
    fn rsa_columns_of_largest_limbs_are_exact() {
        if !has_lanes() {
            return;
        }
        check_largest_columns::<40, 80>();
        check_largest_columns::<60, 120>();
        check_largest_columns::<80, 160>();
    }
}
