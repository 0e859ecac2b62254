//! The cost of a verification, and how to keep it low.
//!
//! Times are ratios to other libraries measured in the same run, for RS256 tokens of 822 bytes
//! (`bench/README.md`, record of 2026-11-22). Instruction counts do not depend on the machine
//! (record of 2026-11-28); a test fails if one exceeds its limit in `bench/budget.toml`.
//!
//! | one call | instructions | time |
//! |---|---|---|
//! | a cached token | 821 | 57 ns, 0.0027 of jsonwebtoken 11 |
//! | an uncached HS256 token | 27,200 | 2.1 times the raw HMAC |
//! | an uncached RS256 token | 300,000 | 1.05 times the raw signature check |
//! | an uncached ES256 token | 741,000 | 1.02 times the raw signature check |
//! | a token that is not base64url | 1,180 | |
//! | replacing 100 keys | 1,120 | |
//! | reading a set of 100 keys | 1,620,000 | |
//!
//! # Advice
//! - **Size the cache for the tokens in use.** A cached token of 822 bytes takes 1,099 bytes. The
//!   default, [`DEFAULT_CACHE_BYTES`](crate::DEFAULT_CACHE_BYTES), holds 60,000 of them.
//!   [`CacheStatistics`](crate::CacheStatistics) counts the evicted ones.
//! - **Share one [`Verifier`](crate::Verifier) between all threads.** Two threads verify 1.95 times
//!   as many tokens as one, and 0.94 of that beside a thread that adds 50,000 new tokens a second.
//! - **Bound the time for bad signatures.** An attacker can send tokens that fail only at the
//!   signature. [`Verifier::verify_if`](crate::Verifier::verify_if) calls back before each check.
//! - **Keep the working set in mind.** A hit is two dependent memory accesses: 57 ns for one token,
//!   474 ns for 100,000 in random order, as there are few of them in the processor's caches.
//! - **Many issuers are free.** A token of one issuer among 1,000 costs what it costs alone.
//! - **Verify tokens together.** [`Verifier::verify_batch`](crate::Verifier::verify_batch) checks
//!   eight RSA signatures at a time, where the processor has AVX-512 IFMA.
//! - **Changing keys is cheap.** Another thread that swaps sets of 100 keys does not slow down
//!   verification measurably. A set with the same keys as before keeps all cached tokens.
//!
//! # Allocation
//! Verifying and refusing allocate nothing, once a thread has its buffers. `tests/alloc_free.rs`
//! checks this for a token of every [`Reject`](crate::Reject).
