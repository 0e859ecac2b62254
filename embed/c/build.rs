//! Marks the library as one that stays in memory. Its threads run its code for as long as the
//! process lives, also if a proxy closes it: a worker of nginx does that when it exits.
//!
//! The library has the version of its interface in its name (`SONAME`), as
//! `CS_INTERFACE_VERSION` does: a program loads only the one that it was built for.

fn main() {
    // Otherwise it runs again, and the library is linked again, after a change of any file.
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libcountersign.so.1");
}
