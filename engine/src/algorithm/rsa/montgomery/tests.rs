//! Adverse moduli and bases: textbook arithmetic against binary arithmetic, and the lanes against
//! textbook arithmetic.

use super::{
    super::{differential::has_lanes, ifma, random::RandomNumbers},
    *,
};

/// Moduli whose limbs, carries or quotient digits are extreme.
fn adverse_moduli(bytes: usize) -> Vec<Vec<u8>> {
    let mut random = RandomNumbers::new(2);
    let with = |change: &dyn Fn(&mut [u8])| {
        let mut n = vec![0; bytes];
        change(&mut n);
        n[0] |= 0x80;
        n[bytes - 1] |= 1;
        n
    };
    let mut moduli = vec![
        // 2^bits - 1: every limb is full, and n0 is -1.
        with(&|n| n.fill(0xff)),
        // 2^(bits - 1) + 1: every limb but two is zero.
        with(&|_| {}),
        // Close to 2^bits, with full upper limbs and empty lower ones, and the reverse.
        with(&|n| n[..bytes / 2].fill(0xff)),
        with(&|n| n[bytes / 2..].fill(0xff)),
        // 2^bits - 3, and limbs that alternate.
        with(&|n| {
            n.fill(0xff);
            n[bytes - 1] = 0xfd;
        }),
        with(&|n| {
            n.rchunks_mut(13).for_each(|pair| pair.iter_mut().skip(6).for_each(|byte| *byte = 0xff))
        }),
        with(&|n| {
            n.rchunks_mut(13).for_each(|pair| pair.iter_mut().take(6).for_each(|byte| *byte = 0xff))
        }),
    ];
    for _ in 0..5 {
        let mut n: Vec<_> = (0..bytes).map(|_| random.byte()).collect();
        n[0] |= 0x80;
        n[bytes - 1] |= 1;
        moduli.push(n);
    }
    moduli
}

/// Bases below n: the smallest, the largest, full limbs, and random ones.
fn adverse_bases(n: &[u8]) -> Vec<Vec<u8>> {
    let mut random = RandomNumbers::new(3);
    let small = |value: u8| {
        let mut base = vec![0; n.len()];
        base[n.len() - 1] = value;
        base
    };
    let below_half: Vec<_> = [&[0x7f], &vec![0xff; n.len() - 1][..]].concat();
    let largest = {
        let mut base = n.to_vec();
        // n is odd.
        base[n.len() - 1] -= 1;
        base
    };
    let mut bases = vec![small(0), small(1), small(2), small(0xff), below_half, largest];
    for zeros in [0, 1, 7, n.len() / 2] {
        let mut base: Vec<_> = (0..n.len()).map(|_| random.byte()).collect();
        base[..zeros].fill(0);
        base[0] &= 0x7f;
        bases.push(base);
    }
    bases
}

/// base^(2^squarings + 1) modulo n, in the order of textbooks.
fn textbook_power(key: &MontgomeryKey, base: &[u8], squarings: u32) -> Box<[u64]> {
    let base: Box<[u64]> = limbs(base).collect();
    let MontgomeryConstants { modulus, square_of_r, inverse } = key.constants().unwrap();
    let product = |a: &[u64], b: &[u64]| montgomery_product(a, b, modulus, *inverse);
    let in_form = product(&base, square_of_r);
    let power = (0..squarings).fold(in_form, |power, _| product(&power, &power));
    product(&power, &base)
}

/// a * b modulo n by doubling and adding, bit by bit.
fn binary_product(a: &[u64], b: &[u64], n: &[u64]) -> Box<[u64]> {
    let mut sum = vec![0; n.len()].into_boxed_slice();
    for limb in a.iter().rev() {
        for bit in (0..LIMB_BITS).rev() {
            double(&mut sum, n);
            if limb >> bit & 1 == 1 {
                let mut carry = 0;
                for (limb, b) in sum.iter_mut().zip(b) {
                    let total = *limb + b + carry;
                    (*limb, carry) = (total & MASK, total >> 52);
                }
                subtract_if_not_below(&mut sum, n);
            }
        }
    }
    sum
}

#[test]
fn rsa_textbook_powers_are_those_of_binary_products() {
    for bytes in [256, 512] {
        for n in adverse_moduli(bytes) {
            let key = MontgomeryKey::new(&n, &[3]).unwrap();
            let base = &adverse_bases(&n)[if bytes == 256 { 5 } else { 6 }];
            let limbs: Box<[u64]> = limbs(base).collect();
            let modulus = &key.constants().unwrap().modulus;
            let square = binary_product(&limbs, &limbs, modulus);
            let cube = binary_product(&square, &limbs, modulus);
            assert_eq!(textbook_power(&key, base, 1), cube, "{n:x?}");
        }
    }
}

#[test]
fn rsa_lanes_compute_the_powers_of_textbooks() {
    if !has_lanes() {
        return;
    }
    compare_powers::<40, 80, 5>(256);
    compare_powers::<60, 120, 8>(384);
    compare_powers::<80, 160, 10>(512);
}

/// Compares the powers of all bases and moduli. Each lane has another modulus, and each modulus
/// comes into every lane.
fn compare_powers<const N: usize, const WIDE: usize, const VECTORS: usize>(bytes: usize) {
    let keys: Vec<_> = adverse_moduli(bytes)
        .into_iter()
        .map(|n| (MontgomeryKey::new(&n, &[1, 0, 1]).unwrap(), adverse_bases(&n)))
        .collect();
    let all: Vec<_> = (0..keys[0].1.len())
        .flat_map(|base| keys.iter().map(move |key| (&key.0, &*key.1[base])))
        .collect();
    for (round, start) in (0..all.len()).enumerate() {
        let pairs = core::array::from_fn(|lane| Some(all[(start + lane) % all.len()]));
        let operands = LaneOperands::<N>::new(&pairs).unwrap();
        let squarings = if round % 8 == 0 { 16 } else { 1 };
        let powers = ifma::power::<N, WIDE>(&operands, squarings).unwrap();
        for (lane, pair) in pairs.iter().enumerate().skip(start % 3).step_by(3) {
            let (key, base) = pair.unwrap();
            let expected = textbook_power(key, base, squarings);
            let found: Box<[u64]> = powers.iter().map(|limb| limb[lane]).collect();
            assert_eq!(found, expected, "lane {lane}: {base:x?}^(2^{squarings} + 1)");
            let operands = PowerOperands::<N>::new(key, base).unwrap();
            let alone = ifma::power_alone::<N, VECTORS>(&operands, squarings).unwrap();
            assert_eq!(alone, *expected, "alone: {base:x?}^(2^{squarings} + 1)");
            let mut written = vec![0; bytes];
            write_lane(&powers, lane, &mut written);
            assert_eq!(limbs(&written).collect::<Box<[u64]>>(), expected);
        }
    }
}

#[test]
fn rsa_key_without_lanes_is_not_prepared() {
    let odd = |bytes: usize| {
        let mut n = vec![0xb5; bytes];
        n[bytes - 1] = 1;
        n
    };
    let is_prepared = |n: &[u8], e: &[u8]| MontgomeryKey::new(n, e).is_some();
    for bytes in [256, 384, 512] {
        assert!(is_prepared(&odd(bytes), &[1, 0, 1]) && is_prepared(&odd(bytes), &[3]));
        assert!(!is_prepared(&odd(bytes + 1), &[3]) && !is_prepared(&odd(bytes - 1), &[3]));
        for e in [&[][..], &[1], &[5], &[1, 0, 3], &[0, 3]] {
            assert!(!is_prepared(&odd(bytes), e), "{e:?}");
        }
        let (mut even, mut short) = (odd(bytes), odd(bytes));
        even[bytes - 1] = 2;
        short[0] = 0x7f;
        assert!(!is_prepared(&even, &[3]) && !is_prepared(&short, &[3]));
    }
    assert!(!is_prepared(&[], &[3]));
}
