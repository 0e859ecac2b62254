//! Verification of many RSA signatures: eight at a time where the processor can, and one at a time
//! elsewhere.

use super::{
    RsaImplementation, RsaKey, ifma,
    montgomery::{
        LANES, LaneClass, LaneOperands, MAX_MODULUS_BYTES, ModulusBits, MontgomeryKey,
        PowerOperands, write_lane, write_number,
    },
};

/// Fewest signatures that are verified in lanes. Eight lanes take about as long as five signatures
/// alone, however many are used.
const MIN_LANES: usize = 5;

/// A signature to be verified.
#[derive(Clone, Copy)]
pub(crate) struct RsaCheck<'c> {
    pub(crate) key: &'c RsaKey,
    pub(crate) message: &'c [u8],
    pub(crate) signature: &'c [u8],
}

impl<'c> RsaCheck<'c> {
    /// Whether lanes can verify it: there are some for its key, and the signature is in range.
    pub(crate) fn fits_lanes(&self) -> bool {
        self.base().is_some_and(|(key, signature)| key.is_in_range(signature))
    }

    fn fits(&self, class: LaneClass) -> bool {
        self.base()
            .is_some_and(|(key, signature)| key.class() == class && key.is_in_range(signature))
    }

    fn base(&self) -> Option<(&'c MontgomeryKey, &'c [u8])> {
        Some((self.key.montgomery.as_deref()?, self.signature))
    }

    fn verify_by_aws_lc(&self) -> bool {
        self.key.verify(self.message, self.signature)
    }

    /// Verifies a signature of this class without others.
    fn verify_alone(&self, class: LaneClass) -> bool {
        let is_valid = match class.modulus_bits {
            ModulusBits::Bits2048 => self.verify_in_vectors::<40, 5>(class),
            ModulusBits::Bits3072 => self.verify_in_vectors::<60, 8>(class),
            ModulusBits::Bits4096 => self.verify_in_vectors::<80, 10>(class),
        };
        is_valid.unwrap_or_else(|| self.verify_by_aws_lc())
    }

    /// `VECTORS` vectors have at least N lanes.
    fn verify_in_vectors<const N: usize, const VECTORS: usize>(
        &self,
        class: LaneClass,
    ) -> Option<bool> {
        let (key, signature) = self.base()?;
        let operands = PowerOperands::<N>::new(key, signature)?;
        let power = ifma::power_alone::<N, VECTORS>(&operands, class.exponent.squarings())?;
        let mut buffer = [0; MAX_MODULUS_BYTES];
        let block = buffer.get_mut(..class.modulus_bits.bytes())?;
        write_number(&power, block, |limb| *limb);
        Some(self.key.padding.is_block_of(block, self.message))
    }
}

/// Verifies signatures, and writes each result to its index in `is_valid`.
pub(crate) fn verify_all<'c>(
    checks: impl Iterator<Item = (usize, RsaCheck<'c>)> + Clone,
    implementation: RsaImplementation,
    is_valid: &mut [bool],
) {
    let uses_lanes = implementation == RsaImplementation::Auto && ifma::is_available();
    for (index, check) in checks.clone() {
        if !(uses_lanes && check.fits_lanes()) {
            set(is_valid, index, check.verify_by_aws_lc());
        }
    }
    for class in LaneClass::ALL.into_iter().filter(|_| uses_lanes) {
        let mut group = LaneGroup::default();
        for (index, check) in checks.clone().filter(|(_, check)| check.fits(class)) {
            group.push(index, check);
            if group.length == LANES {
                core::mem::take(&mut group).verify(class, is_valid);
            }
        }
        group.verify(class, is_valid);
    }
}

fn set(is_valid: &mut [bool], index: usize, value: bool) {
    if let Some(place) = is_valid.get_mut(index) {
        *place = value;
    }
}

/// At most eight signatures of one class, with their places in the results.
#[derive(Default)]
struct LaneGroup<'c> {
    checks: [Option<(usize, RsaCheck<'c>)>; LANES],
    length: usize,
}

impl<'c> LaneGroup<'c> {
    fn push(&mut self, index: usize, check: RsaCheck<'c>) {
        if let Some(place) = self.checks.get_mut(self.length) {
            *place = Some((index, check));
            self.length = self.length.saturating_add(1);
        }
    }

    fn verify(self, class: LaneClass, is_valid: &mut [bool]) {
        let in_lanes = match class.modulus_bits {
            _ if self.length < MIN_LANES => None,
            ModulusBits::Bits2048 => self.verify_in_lanes::<40, 80>(class),
            ModulusBits::Bits3072 => self.verify_in_lanes::<60, 120>(class),
            ModulusBits::Bits4096 => self.verify_in_lanes::<80, 160>(class),
        };
        let results = in_lanes.unwrap_or_else(|| {
            self.checks.map(|check| check.is_some_and(|(_, check)| check.verify_alone(class)))
        });
        for ((index, _), result) in self.checks.into_iter().flatten().zip(results) {
            set(is_valid, index, result);
        }
    }

    /// `WIDE` is twice the number of limbs.
    fn verify_in_lanes<const N: usize, const WIDE: usize>(
        &self,
        class: LaneClass,
    ) -> Option<[bool; LANES]> {
        let bases = self.checks.each_ref().map(|check| check.as_ref()?.1.base());
        let operands = LaneOperands::<N>::new(&bases)?;
        let powers = ifma::power::<N, WIDE>(&operands, class.exponent.squarings())?;
        let mut buffer = [0; MAX_MODULUS_BYTES];
        let block = buffer.get_mut(..class.modulus_bits.bytes())?;
        let mut results = [false; LANES];
        for (lane, (result, check)) in results.iter_mut().zip(&self.checks).enumerate() {
            let Some((_, check)) = check else { continue };
            write_lane(&powers, lane, block);
            *result = check.key.padding.is_block_of(block, check.message);
        }
        Some(results)
    }
}
