//! The certificates that log a machine identity in: the rules of an identity against certificates
//! that `openssl` makes.

mod authority;
mod chain;
mod constraints;
mod dates;
mod direct;
mod fixture;
mod names;
mod revocation;
