//! Marks the library as one that stays in memory. Its threads run its code for as long as the
//! process lives, also if a proxy closes it: a worker of nginx does that when it exits.

fn main() {
    // Otherwise it runs again, and the library is linked again, after a change of any file.
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
