//! The padding of RSA signatures (RFC 8017 section 9), checked by reconstruction: the only block
//! that a signer could have made for the message is built and compared as a whole. Nothing in a
//! block is parsed.

use ring::digest::{self, Digest, SHA256, SHA384, SHA512};

use super::{Algorithm, montgomery::MAX_MODULUS_BYTES};

/// The padding and the hash function of an algorithm.
#[derive(Clone, Copy)]
pub(super) struct PaddingScheme {
    hash: &'static digest::Algorithm,
    kind: PaddingKind,
}

#[derive(Clone, Copy)]
enum PaddingKind {
    /// EMSA-PKCS1-v1_5 with this DER encoding of everything before the hash.
    Pkcs1(&'static [u8; 19]),
    /// EMSA-PSS with MGF1, the same hash function, and a salt of the hash's length (RFC 7518
    /// section 3.5).
    Pss,
}

impl PaddingScheme {
    /// Returns the scheme of an RSA algorithm.
    pub(super) fn of(algorithm: Algorithm) -> Option<Self> {
        let (hash, kind) = match algorithm {
            Algorithm::Rs256 => (&SHA256, PaddingKind::Pkcs1(&DIGEST_INFO_SHA256)),
            Algorithm::Rs384 => (&SHA384, PaddingKind::Pkcs1(&DIGEST_INFO_SHA384)),
            Algorithm::Rs512 => (&SHA512, PaddingKind::Pkcs1(&DIGEST_INFO_SHA512)),
            Algorithm::Ps256 => (&SHA256, PaddingKind::Pss),
            Algorithm::Ps384 => (&SHA384, PaddingKind::Pss),
            Algorithm::Ps512 => (&SHA512, PaddingKind::Pss),
            _ => return None,
        };
        Some(Self { hash, kind })
    }

    /// Whether this is the block of the message. The block is as long as the modulus, whose first
    /// bit is set.
    pub(super) fn is_block_of(self, block: &[u8], message: &[u8]) -> bool {
        let hash = digest::digest(self.hash, message);
        let mut buffer = [0; MAX_MODULUS_BYTES];
        let Some(expected) = buffer.get_mut(..block.len()) else { return false };
        let built = match self.kind {
            PaddingKind::Pkcs1(prefix) => write_pkcs1(expected, prefix, &hash),
            PaddingKind::Pss => self.write_pss(expected, block, &hash),
        };
        built.is_some() && expected == block
    }

    /// Writes the PSS block with the salt of `block` (RFC 8017 section 9.1): its first bit is zero,
    /// since it has one bit less than the modulus.
    fn write_pss(self, expected: &mut [u8], block: &[u8], message_hash: &Digest) -> Option<()> {
        const TRAILER: u8 = 0xbc;
        let hash_length = self.hash.output_len();
        let (data, rest) =
            expected.split_at_mut_checked(block.len().checked_sub(hash_length)?.checked_sub(1)?)?;
        let (masked, block_rest) = block.split_at_checked(data.len())?;
        // The mask of the data block, made of the hash in the block.
        self.write_mask(data, block_rest.get(..hash_length)?);
        let salt_start = data.len().checked_sub(hash_length)?;
        let mut salt = [0; digest::MAX_OUTPUT_LEN];
        let salt = salt.get_mut(..hash_length)?;
        for (byte, (masked, mask)) in
            salt.iter_mut().zip(masked.iter().zip(&*data).skip(salt_start))
        {
            *byte = masked ^ mask;
        }
        // The data block: zeros, one, and the salt.
        *data.get_mut(salt_start.checked_sub(1)?)? ^= 1;
        data.iter_mut().skip(salt_start).zip(&*salt).for_each(|(byte, salt)| *byte ^= salt);
        *data.first_mut()? &= 0x7f;
        let mut context = digest::Context::new(self.hash);
        context.update(&[0; 8]);
        context.update(message_hash.as_ref());
        context.update(salt);
        let (trailer, hash) = rest.split_last_mut()?;
        hash.copy_from_slice(context.finish().as_ref());
        *trailer = TRAILER;
        Some(())
    }

    /// MGF1 (RFC 8017 section B.2.1).
    fn write_mask(self, mask: &mut [u8], seed: &[u8]) {
        for (counter, part) in (0u32..).zip(mask.chunks_mut(self.hash.output_len())) {
            let mut context = digest::Context::new(self.hash);
            context.update(seed);
            context.update(&counter.to_be_bytes());
            part.iter_mut().zip(context.finish().as_ref()).for_each(|(one, other)| *one = *other);
        }
    }
}

/// Writes the PKCS#1 v1.5 block: `00 01 ff .. ff 00`, the DigestInfo and the hash (RFC 8017 section
/// 9.2).
fn write_pkcs1(expected: &mut [u8], prefix: &[u8; 19], hash: &Digest) -> Option<()> {
    let info_start = expected.len().checked_sub(prefix.len())?.checked_sub(hash.as_ref().len())?;
    let (padding, info) = expected.split_at_mut_checked(info_start)?;
    padding.fill(0xff);
    *padding.first_mut()? = 0;
    *padding.get_mut(1)? = 1;
    *padding.last_mut()? = 0;
    let (start, end) = info.split_at_mut_checked(prefix.len())?;
    start.copy_from_slice(prefix);
    end.copy_from_slice(hash.as_ref());
    Some(())
}

/// DigestInfo of SHA-256 up to the hash (RFC 8017 section 9.2, note 1).
const DIGEST_INFO_SHA256: [u8; 19] = digest_info(1, 32);
/// DigestInfo of SHA-384.
const DIGEST_INFO_SHA384: [u8; 19] = digest_info(2, 48);
/// DigestInfo of SHA-512.
const DIGEST_INFO_SHA512: [u8; 19] = digest_info(3, 64);

/// A sequence of the algorithm, `{joint-iso-itu-t(2) country(16) us(840) organization(1) gov(101)
/// csor(3) nistAlgorithm(4) hashAlgs(2) hash}` with the parameters NULL, and of an octet string.
const fn digest_info(hash: u8, length: u8) -> [u8; 19] {
    [
        0x30,
        length.saturating_add(17),
        0x30,
        13,
        0x06,
        9,
        0x60,
        0x86,
        0x48,
        0x01,
        0x65,
        0x03,
        0x04,
        0x02,
        hash,
        0x05,
        0,
        0x04,
        length,
    ]
}
