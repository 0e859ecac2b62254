//! How a verification works, for readers of the source.
//!
//! # The way of a token
//! [`Verifier::verify_if`](crate::Verifier::verify_if) loads the snapshot and looks the token up in
//! the cache. A cached result is returned if it still holds. Otherwise the token is split, decoded
//! and parsed (`token.rs`), `iss` selects the issuer (`issuer.rs`), `kid` and `alg` select the key
//! (`keyset.rs`), the key checks the signature (`algorithm.rs`), the rules check the claims
//! (`rules.rs`), and the revocations are checked last (`revocation.rs`).
//!
//! Until the signature has been checked, the content of a token only *selects* among configured
//! values. The claims become a record of words, which the cache stores as it is.
//!
//! # Snapshot
//! Issuers, keys and rules are one immutable [`Snapshot`](crate::Snapshot) behind one atomic
//! pointer, so a verification never sees the keys of one configuration with the rules of another.
//! [`Verifier::update`](crate::Verifier::update) copies it, a few pointers for each issuer, and
//! swaps the copy in.
//!
//! Each configuration of an issuer with one set of keys has a unique number, its epoch. A cached
//! result with another epoch is checked again, except for a signature by the same key.
//!
//! # Cache
//! A keyed hash of the token selects a set of eight slots. A slot names one entry, in one of two
//! rings of fixed size. No two entries have the same name, so the slot is the sequence number of a
//! sequence lock too. Readers compare the whole token, take no lock and write nothing but a mark
//! that the entry was read. A new entry goes into the small ring, and only entries that are read
//! there move to the main ring (S3-FIFO), so a flood of tokens that are each presented once evicts
//! none in use.
//!
//! `tests/loom.rs` checks the sequence lock under all interleavings, and a lock-based twin runs
//! through the same tests. `cache/table.rs` has the only `unsafe` code of the crate.
//!
//! # Revocations
//! The table is 1,024 immutable maps behind atomic pointers, with one writer. It stands beside the
//! snapshot, which is safe since a revocation only ever adds a refusal. A Bloom filter answers for
//! cached tokens: a negative answer is certain, and after a positive one the token is verified in
//! full.
