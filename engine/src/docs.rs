//! Longer explanations, without code.

pub mod internals;
pub mod limitations;
pub mod performance;
