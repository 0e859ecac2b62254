//! The smallest server: `cargo run -p countersign-front --example hello`, then
//! `curl http://127.0.0.1:8080/`.

mod service;

use std::io::{self, Write as _};

use countersign_front::ListenAddress;

fn main() -> io::Result<()> {
    let address = ListenAddress::Tcp(([127, 0, 0, 1], 8080).into());
    service::serve(&address, |bound| {
        let _ignored = writeln!(io::stdout(), "listening on {bound}");
    })
}
