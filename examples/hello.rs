//! The shortest server: one loop, one response.
//!
//!     cargo run --release --example hello -- 127.0.0.1:8080
//!     # in another terminal:
//!     curl http://127.0.0.1:8080/

use uncork::{Request, Response, Server};

fn main() -> std::io::Result<()> {
    env_logger::init(); // shows errors of the application
    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".into());
    if addr.starts_with('-') {
        println!(
            "usage: hello [ADDRESS:PORT]\n\nServes \"Hello, world!\" there; 127.0.0.1:8080 if no address is given."
        );
        return Ok(());
    }
    let server = Server::bind(&*addr)?.external(|_: &mut Request<'_>| Response::text("Hello, world!"))?;
    println!("listening on http://{}", server.local_addr().map_or(addr, |addr| addr.to_string()));
    server.run()
}
