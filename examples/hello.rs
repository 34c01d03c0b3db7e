//! The shortest server: one loop, one response.
//!
//!     cargo run --release --example hello -- 127.0.0.1:8080
//!     # in another terminal:
//!     curl http://127.0.0.1:8080/

use std::process::ExitCode;

use uncork::{Request, Response, Server};

#[path = "common/address.rs"]
mod address;

fn main() -> ExitCode {
    address::main("hello", "Serves \"Hello, world!\"", |addr| {
        let server = Server::bind(addr)?.external(|_: &mut Request<'_>| Response::text("Hello, world!"))?;
        println!("listening on http://{}", server.local_addr().map_or(addr.into(), |addr| addr.to_string()));
        server.run()
    })
}
