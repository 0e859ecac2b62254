//! Marks the module as one that stays in memory. Its threads run its code for as long as the
//! process lives, also if Envoy closes it after the last filter.

fn main() {
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
