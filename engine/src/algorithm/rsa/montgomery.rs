//! RSA keys prepared for Montgomery arithmetic in radix 2^52, and the operands of eight lanes.

use std::sync::OnceLock;

/// Number of signatures that are verified at once.
pub(super) const LANES: usize = 8;

/// One number for each lane: N limbs of 52 bits, least significant first.
pub(super) type LaneNumbers<const N: usize> = [[u64; LANES]; N];

/// Longest modulus of a [`MontgomeryKey`], in bytes.
pub(super) const MAX_MODULUS_BYTES: usize = 512;

/// Bits of a limb.
const LIMB_BITS: usize = 52;

/// The lower 52 bits.
const MASK: u64 = (1 << LIMB_BITS) - 1;

/// What signatures must have in common to share lanes: the size of the modulus, in bits, and the
/// exponent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LaneClass {
    pub(super) modulus_bits: ModulusBits,
    pub(super) exponent: LaneExponent,
}

/// A size of a modulus; exactly this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ModulusBits {
    Bits2048,
    Bits3072,
    Bits4096,
}

/// A public exponent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LaneExponent {
    /// 3.
    Three,
    /// 65537.
    Usual,
}

impl LaneClass {
    pub(super) const ALL: [Self; 6] = {
        use LaneExponent::{Three, Usual};
        use ModulusBits::{Bits2048, Bits3072, Bits4096};
        [
            Self { modulus_bits: Bits2048, exponent: Usual },
            Self { modulus_bits: Bits3072, exponent: Usual },
            Self { modulus_bits: Bits4096, exponent: Usual },
            Self { modulus_bits: Bits2048, exponent: Three },
            Self { modulus_bits: Bits3072, exponent: Three },
            Self { modulus_bits: Bits4096, exponent: Three },
        ]
    };
}

impl ModulusBits {
    /// The length of the modulus.
    pub(super) const fn bytes(self) -> usize {
        match self {
            Self::Bits2048 => 256,
            Self::Bits3072 => 384,
            Self::Bits4096 => MAX_MODULUS_BYTES,
        }
    }

    /// The number of limbs: with at least 32 unused bits, and a multiple of ten.
    const fn limbs(self) -> usize {
        match self {
            Self::Bits2048 => 40,
            Self::Bits3072 => 60,
            Self::Bits4096 => 80,
        }
    }
}

impl LaneExponent {
    /// The exponent is a power of two and one. Returns how often that power squares.
    pub(super) const fn squarings(self) -> u32 {
        match self {
            Self::Three => 1,
            Self::Usual => 16,
        }
    }
}

/// A modulus, with its constants from the first use on. They take 20 us for 2048 bits and 90 us for
/// 4096, several times as long as reading a key, and many keys of a set are never used.
pub(super) struct MontgomeryKey {
    class: LaneClass,
    /// The modulus n, big-endian.
    bytes: Box<[u8]>,
    constants: OnceLock<MontgomeryConstants>,
}

/// The constants of a modulus n. R is 2^52 to the power of the number of limbs.
struct MontgomeryConstants {
    /// The limbs of n.
    modulus: Box<[u64]>,
    /// R^2 modulo n.
    square_of_r: Box<[u64]>,
    /// -1 / n modulo 2^52.
    inverse: u64,
}

impl MontgomeryConstants {
    /// For an odd modulus of this size whose first bit is set.
    fn new(n: &[u8], size: ModulusBits) -> Self {
        let mut modulus = vec![0; size.limbs()].into_boxed_slice();
        modulus.iter_mut().zip(limbs(n)).for_each(|(limb, value)| *limb = value);
        let inverse = negative_inverse(modulus.first().copied().unwrap_or(1));
        let square_of_r = square_of_r(&modulus, inverse, n.len());
        Self { modulus, square_of_r, inverse }
    }
}

impl MontgomeryKey {
    /// Takes a key, both numbers big-endian without leading zeros; `None` if there are no lanes for
    /// its size or exponent.
    pub(super) fn new(n: &[u8], e: &[u8]) -> Option<Self> {
        let exponent = match e {
            [3] => LaneExponent::Three,
            [1, 0, 1] => LaneExponent::Usual,
            _ => return None,
        };
        let is_whole = n.first().is_some_and(|byte| *byte >= 0x80);
        let is_odd = n.last().is_some_and(|byte| byte & 1 == 1);
        if !is_whole || !is_odd {
            return None;
        }
        let sizes = [ModulusBits::Bits2048, ModulusBits::Bits3072, ModulusBits::Bits4096];
        let modulus_bits = sizes.into_iter().find(|size| size.bytes() == n.len())?;
        let class = LaneClass { modulus_bits, exponent };
        Some(Self { class, bytes: n.into(), constants: OnceLock::new() })
    }

    /// The constants. Threads that need them first at the same time all compute them, since waiting
    /// would take as long.
    fn constants(&self) -> Option<&MontgomeryConstants> {
        if self.constants.get().is_none() {
            let constants = MontgomeryConstants::new(&self.bytes, self.class.modulus_bits);
            // Another thread may have set the same.
            drop(self.constants.set(constants));
        }
        self.constants.get()
    }

    pub(super) fn class(&self) -> LaneClass {
        self.class
    }

    /// Whether a signature is as long as the modulus and smaller (RFC 8017 sections 5.2.2, 8.1.2
    /// and 8.2.2).
    pub(super) fn is_in_range(&self, signature: &[u8]) -> bool {
        signature.len() == self.bytes.len() && signature < &*self.bytes
    }
}

/// The operands of one power, in limbs.
pub(super) struct PowerOperands<'k, const N: usize> {
    pub(super) base: [u64; N],
    pub(super) modulus: &'k [u64; N],
    pub(super) square_of_r: &'k [u64; N],
    pub(super) inverse: u64,
}

impl<'k, const N: usize> PowerOperands<'k, N> {
    /// `None` if the key has another number of limbs, or the signature is not in range.
    pub(super) fn new(key: &'k MontgomeryKey, signature: &[u8]) -> Option<Self> {
        if key.class.modulus_bits.limbs() != N || !key.is_in_range(signature) {
            return None;
        }
        let MontgomeryConstants { modulus, square_of_r, inverse } = key.constants()?;
        let mut base = [0; N];
        base.iter_mut().zip(limbs(signature)).for_each(|(limb, value)| *limb = value);
        let (modulus, square_of_r) = (modulus.first_chunk()?, square_of_r.first_chunk()?);
        Some(Self { base, modulus, square_of_r, inverse: *inverse })
    }
}

/// The operands of eight powers, each in limbs.
pub(super) struct LaneOperands<'k, const N: usize> {
    pub(super) bases: [[u64; N]; LANES],
    pub(super) moduli: [&'k [u64; N]; LANES],
    pub(super) squares_of_r: [&'k [u64; N]; LANES],
    pub(super) inverses: [u64; LANES],
}

impl<'k, const N: usize> LaneOperands<'k, N> {
    /// Takes one key and signature for each lane, all of the class with N limbs. Lanes without one
    /// get those of the first. `None` if the first has none, or one is not in range.
    pub(super) fn new(bases: &[Option<(&'k MontgomeryKey, &[u8])>; LANES]) -> Option<Self> {
        let (key, signature) = bases.first().copied().flatten()?;
        let first = PowerOperands::new(key, signature)?;
        let mut operands = Self {
            bases: [first.base; LANES],
            moduli: [first.modulus; LANES],
            squares_of_r: [first.square_of_r; LANES],
            inverses: [first.inverse; LANES],
        };
        for (lane, base) in bases.iter().enumerate().skip(1) {
            let Some((key, signature)) = base else { continue };
            let PowerOperands { base, modulus, square_of_r, inverse } =
                PowerOperands::new(key, signature)?;
            *operands.bases.get_mut(lane)? = base;
            *operands.moduli.get_mut(lane)? = modulus;
            *operands.squares_of_r.get_mut(lane)? = square_of_r;
            *operands.inverses.get_mut(lane)? = inverse;
        }
        Some(operands)
    }
}

/// Bytes of two limbs, 104 bits.
const PAIR_BYTES: usize = 13;

/// Writes the number of one lane, big-endian, into `bytes`, which it fits into.
pub(super) fn write_lane<const N: usize>(numbers: &LaneNumbers<N>, lane: usize, bytes: &mut [u8]) {
    write_number(numbers, bytes, |limbs| limbs.get(lane).copied().unwrap_or(0));
}

/// Writes a number, big-endian, into `bytes`, which it fits into.
pub(super) fn write_number<L, const N: usize>(
    number: &[L; N],
    bytes: &mut [u8],
    limb: impl Fn(&L) -> u64,
) {
    let mut pairs = number.as_chunks::<2>().0.iter().map(|pair| {
        let [low, high] = pair.each_ref().map(|limbs| u128::from(limb(limbs)));
        low | high.wrapping_shl(52)
    });
    let (rest, whole) = bytes.as_rchunks_mut::<PAIR_BYTES>();
    for (place, pair) in whole.iter_mut().rev().zip(&mut pairs) {
        copy_end(place, &pair.to_be_bytes());
    }
    copy_end(rest, &pairs.next().unwrap_or(0).to_be_bytes());
}

/// The limbs of a big-endian number, least significant first.
fn limbs(number: &[u8]) -> impl Iterator<Item = u64> {
    let (rest, whole) = number.as_rchunks::<PAIR_BYTES>();
    let pairs = whole.iter().rev().map(|bytes| pair_of(bytes));
    pairs.chain([pair_of(rest)]).flatten()
}

/// The two limbs of a number of at most 104 bits.
#[inline]
fn pair_of(bytes: &[u8]) -> [u64; 2] {
    let mut value = [0; 16];
    copy_end(value.get_mut(16usize.saturating_sub(bytes.len())..).unwrap_or_default(), bytes);
    let value = u128::from_be_bytes(value);
    [truncated(value), truncated(value.wrapping_shr(52))]
}

/// Copies the last bytes of a longer number.
#[inline]
fn copy_end(place: &mut [u8], number: &[u8]) {
    let start = number.len().saturating_sub(place.len());
    if let Some(end) = number.get(start..).filter(|end| end.len() == place.len()) {
        place.copy_from_slice(end);
    }
}

/// The lower 52 bits.
fn truncated(value: u128) -> u64 {
    u64::try_from(value & u128::from(MASK)).unwrap_or(0)
}

/// -1 / n modulo 2^52 for an odd n, by Newton's iteration: each step doubles the number of correct
/// bits, of which an odd n is its own inverse in three.
fn negative_inverse(n: u64) -> u64 {
    let step = |x: u64| x.wrapping_mul(2u64.wrapping_sub(n.wrapping_mul(x)));
    let inverse = (0..5).fold(n, |x, _| step(x));
    inverse.wrapping_neg() & MASK
}

/// R^2 modulo n, for a modulus of this length whose first bit is set.
///
/// R * 2^k is found by doubling, for a k whose repeated doubling gives the bits of R. The
/// Montgomery square of R * 2^k is R * 2^(2 * k), so squaring ends with R * R.
fn square_of_r(n: &[u64], inverse: u64, bytes: usize) -> Box<[u64]> {
    let bits_of_r = n.len().saturating_mul(LIMB_BITS);
    let squarings = bits_of_r.trailing_zeros();
    let k = bits_of_r.wrapping_shr(squarings);
    // The power of two that is one bit shorter than the modulus, and so smaller.
    let bits = bytes.saturating_mul(8).saturating_sub(1);
    let mut number = vec![0; n.len()].into_boxed_slice();
    if let Some(limb) = number.get_mut(bits / LIMB_BITS) {
        *limb = 1u64.wrapping_shl(u32::try_from(bits % LIMB_BITS).unwrap_or(0));
    }
    for _ in bits..bits_of_r.saturating_add(k) {
        double(&mut number, n);
    }
    for _ in 0..squarings {
        number = montgomery_product(&number, &number, n, inverse);
    }
    number
}

/// Doubles a number below n, modulo n.
fn double(number: &mut [u64], n: &[u64]) {
    let mut carry = 0;
    for limb in number.iter_mut() {
        let doubled = limb.wrapping_mul(2) | carry;
        (*limb, carry) = (doubled & MASK, doubled.wrapping_shr(52));
    }
    subtract_if_not_below(number, n);
}

/// Returns a * b / R modulo n, for numbers below n: one limb at a time, as in textbooks. The lanes
/// do the same in another order, and the tests compare them.
fn montgomery_product(a: &[u64], b: &[u64], n: &[u64], inverse: u64) -> Box<[u64]> {
    let mut sum = vec![0u64; n.len()].into_boxed_slice();
    for a in a {
        let lowest = sum
            .first()
            .zip(b.first())
            .map_or(0, |(limb, b)| truncated(product(*a, *b).wrapping_add((*limb).into())));
        let q = truncated(product(lowest, inverse));
        // The sum is below 2 * n < R, so it fits, and the last carry is one limb.
        let (mut carry, mut previous) = (0u128, None);
        for ((limb, b), n) in sum.iter_mut().zip(b).zip(n) {
            let products = product(*a, *b).wrapping_add(product(q, *n));
            let value = products.wrapping_add((*limb).into()).wrapping_add(carry);
            carry = value.wrapping_shr(52);
            if let Some(previous) = previous.replace(limb) {
                *previous = truncated(value);
            }
        }
        if let Some(last) = previous {
            *last = u64::try_from(carry).unwrap_or(0);
        }
    }
    subtract_if_not_below(&mut sum, n);
    sum
}

fn product(a: u64, b: u64) -> u128 {
    u128::from(a).wrapping_mul(b.into())
}

/// Reduces a number below 2 * n modulo n.
pub(super) fn subtract_if_not_below(number: &mut [u64], n: &[u64]) {
    if number.iter().rev().lt(n.iter().rev()) {
        return;
    }
    let mut borrow = 0;
    for (limb, n) in number.iter_mut().zip(n) {
        let difference = limb.wrapping_sub(*n).wrapping_sub(borrow);
        (*limb, borrow) = (difference & MASK, difference.wrapping_shr(63));
    }
}

#[cfg(test)]
mod tests;
