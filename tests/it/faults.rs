//! Faults of the machine and of the network that no other topic has: what keeps working, and what
//! is not lost. `docs/faults.md` lists them with those that have a topic of their own.

/// Full disks, and databases that another process keeps locked.
mod disk;
/// Names that cannot be resolved, and a database that cannot be reached.
mod network;
/// File descriptors.
mod descriptors;
