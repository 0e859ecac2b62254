//! Eight RSA signatures in lanes, one alone, and one after the other by aws-lc with parsed keys:
//! criterion's figures of eight, and the ratios of paired rounds, which decide.
//!
//! Usage: `taskset -c 1 cargo bench --bench rsa`. On a processor without AVX-512 IFMA, both are the
//! same.

use std::{hint::black_box, time::Duration};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{self, KeyPair as _, ParsedPublicKey, RsaEncoding, RsaKeyPair, RsaParameters},
};
use countersign_bench::{Keys, NOW, accepts, paired::compare};
use countersign_engine::{
    Algorithm, KeyMaterial, Reject, RsaImplementation, SignatureInput, VerificationKey,
};
use criterion::{Criterion, criterion_group, criterion_main};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const LANES: usize = 8;

/// Length of the signing input of a usual token with an RS256 signature.
const MESSAGE_BYTES: usize = 479;

/// Signatures of different messages, each by a key of its own.
struct SignatureGroup {
    name: String,
    signatures: Vec<SignedMessage>,
}

struct SignedMessage {
    key: VerificationKey,
    parsed: ParsedPublicKey,
    message: Vec<u8>,
    signature: Vec<u8>,
}

impl SignatureGroup {
    /// `keys` are signed with in turn.
    fn new(keys: &[RsaKeyPair], algorithm: Algorithm) -> Self {
        let signatures = (0u8..).zip(keys.iter().cycle()).take(LANES);
        let signatures: Vec<_> =
            signatures.map(|(number, pair)| SignedMessage::new(pair, algorithm, number)).collect();
        let bits = 8 * keys[0].public_modulus_len();
        Self { name: format!("{algorithm}-{bits}, {} keys", keys.len()), signatures }
    }

    /// Verifies the first of them together.
    fn together(&self, count: usize) -> bool {
        let inputs = black_box(&self.signatures).iter().take(count).map(|one| SignatureInput {
            key: &one.key,
            signing_input: &one.message,
            signature: &one.signature,
        });
        let mut is_valid = [false; LANES];
        SignatureInput::verify_all(inputs, RsaImplementation::Auto, &mut is_valid);
        is_valid.iter().filter(|is_valid| **is_valid).count() == count
    }

    fn by_aws_lc(&self, count: usize) -> bool {
        self.signatures.iter().take(count).all(|one| {
            let SignedMessage { parsed, message, signature, .. } = black_box(one);
            parsed.verify_sig(message, signature).is_ok()
        })
    }
}

impl SignedMessage {
    fn new(pair: &RsaKeyPair, algorithm: Algorithm, number: u8) -> Self {
        let public = pair.public_key();
        let n = public.modulus().big_endian_without_leading_zero();
        let e = public.exponent().big_endian_without_leading_zero();
        let (encoding, parameters) = parameters(algorithm);
        let message = vec![number; MESSAGE_BYTES];
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(encoding, &SystemRandom::new(), &message, &mut signature).expect("a signature");
        Self {
            key: VerificationKey::new(None, algorithm, KeyMaterial::Rsa { n, e }).expect("a key"),
            parsed: signature::RsaPublicKeyComponents { n, e }
                .to_parsed_public_key(parameters)
                .expect("a key"),
            message,
            signature,
        }
    }
}

fn parameters(algorithm: Algorithm) -> (&'static dyn RsaEncoding, &'static RsaParameters) {
    match algorithm {
        Algorithm::Ps256 => (&signature::RSA_PSS_SHA256, &signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::Ps512 => (&signature::RSA_PSS_SHA512, &signature::RSA_PSS_2048_8192_SHA512),
        _ => (&signature::RSA_PKCS1_SHA256, &signature::RSA_PKCS1_2048_8192_SHA256),
    }
}

fn generate(size: KeySize, count: usize) -> Vec<RsaKeyPair> {
    (0..count).map(|_| RsaKeyPair::generate(size).expect("a key pair")).collect()
}

fn rsa(criterion: &mut Criterion) {
    let keys = generate(KeySize::Rsa2048, LANES);
    let longer = generate(KeySize::Rsa3072, 1);
    let longest = generate(KeySize::Rsa4096, 1);
    let all = [
        SignatureGroup::new(&keys[..1], Algorithm::Rs256),
        SignatureGroup::new(&keys, Algorithm::Rs256),
        SignatureGroup::new(&longer, Algorithm::Rs256),
        SignatureGroup::new(&longest, Algorithm::Rs256),
        SignatureGroup::new(&keys[..1], Algorithm::Ps256),
        SignatureGroup::new(&longer, Algorithm::Ps256),
        SignatureGroup::new(&longest, Algorithm::Ps512),
    ];
    for signatures in &all {
        let name = &signatures.name;
        criterion.bench_function(&format!("rsa/{name}/eight in lanes"), |bencher| {
            bencher.iter(|| assert!(signatures.together(LANES)));
        });
        criterion.bench_function(&format!("rsa/{name}/eight by aws-lc"), |bencher| {
            bencher.iter(|| assert!(signatures.by_aws_lc(LANES)));
        });
    }
    for (count, how) in [(LANES, "eight in lanes"), (1, "one alone")] {
        for signatures in &all {
            let name = format!("{}: {how} / aws-lc, parsed keys", signatures.name);
            let together = || signatures.together(count);
            compare(&name, &together, &|| signatures.by_aws_lc(count));
        }
    }
}

/// Whole tokens, without a cache: 64 in a batch, and one after the other.
fn tokens(_: &mut Criterion) {
    const COUNT: usize = 64;
    let keys = Keys::generate();
    let verifier = keys.verifier(Algorithm::Rs256);
    let tokens: Vec<_> = (0..COUNT).map(|index| keys.token(Algorithm::Rs256, index)).collect();
    let tokens: Vec<_> = tokens.iter().map(String::as_bytes).collect();
    let in_a_batch = || {
        let mut results: Vec<_> = tokens.iter().map(|_| Err(Reject::TooLong)).collect();
        verifier.verify_batch(black_box(&tokens), NOW, &mut results);
        results.iter().all(Result::is_ok)
    };
    let one_at_a_time = || tokens.iter().all(|token| accepts(&verifier, black_box(token)));
    compare("64 cold RS256 tokens in a batch / one at a time", &in_a_batch, &one_at_a_time);
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(30);
    targets = rsa, tokens
}
criterion_main!(benches);
