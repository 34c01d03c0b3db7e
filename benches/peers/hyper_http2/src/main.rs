//! Responds to every request of HTTP/2 with 13 bytes, like the example `hello`: by hyper, on one thread.
//!
//! Usage: `hyper_http2 PORT`

use std::{convert::Infallible, error::Error, future::Future, rc::Rc};

use http_body_util::Full;
use hyper::{
    Response,
    body::{Bytes, Incoming},
    header::{CONTENT_TYPE, HeaderValue},
    rt::Executor,
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpListener,
    task::{LocalSet, spawn_local},
};

/// Runs hyper's tasks on the thread that serves the connection.
#[derive(Clone)]
struct SameThread;

impl<F: Future + 'static> Executor<F> for SameThread {
    fn execute(&self, task: F) {
        spawn_local(async move {
            task.await;
        });
    }
}

async fn respond(_: hyper::Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::new(Bytes::from_static(b"Hello, world!")));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

fn main() -> Result<(), Box<dyn Error>> {
    let port: u16 = std::env::args().nth(1).ok_or("usage: hyper_http2 PORT")?.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let builder = Rc::new(http2::Builder::new(SameThread));
    LocalSet::new().block_on(&runtime, async move {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let builder = builder.clone();
            spawn_local(async move {
                let _ = builder.serve_connection(TokioIo::new(stream), service_fn(respond)).await;
            });
        }
    })
}
