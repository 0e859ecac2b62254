//! The auth tier as a C library: `include/countersign.h`, which cbindgen makes of these files.
//!
//! [`boundary`] has the functions, and with [`memory`] and [`fork`] all unsafe code. [`layout`] has
//! the types that both sides share.

pub mod boundary;
mod claim;
mod decision;
mod fork;
pub mod layout;
mod memory;
