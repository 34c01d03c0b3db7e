//! The pool: which connection serves a request, limits, queues, rotation, and several loops.

use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

use uncork::{
    LoopHandle, Request, Response, Running, Server, Timeout,
    client::{self, Client, Error, FullResponse},
};

use crate::scripted::{Scripted, TIMEOUT, ok};

/// Loops that requests are sent on.
struct Loops {
    running: Running,
    loops: Vec<LoopHandle>,
}

impl Loops {
    fn new(count: usize) -> Self {
        let running = Server::new().threads(count, |_: &mut Request<'_>| Response::new(500)).expect("running");
        let loops = running.loops();
        Self { running, loops }
    }
}

fn fetch(client: &Client, on: &LoopHandle, request: client::Request) -> Receiver<Result<FullResponse, Error>> {
    let (sender, receiver) = channel();
    client.send_collect(on, request, 1 << 20, move |result| drop(sender.send(result)));
    receiver
}

fn wait<T>(result: &Receiver<T>) -> T {
    result.recv_timeout(TIMEOUT).expect("a result")
}

/// Starts a server that counts requests. Each gets its response when the test sends `()`.
fn slow_server() -> (Running, Sender<()>, Arc<AtomicUsize>) {
    let (release, blocked) = channel::<()>();
    let blocked = Arc::new(std::sync::Mutex::new(blocked));
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = requests.clone();
    let handler = move |_: &mut Request<'_>| {
        counter.fetch_add(1, Ordering::SeqCst);
        let _ = blocked.lock().expect("no panic").recv_timeout(TIMEOUT);
        Response::text("done")
    };
    let running = Server::bind("127.0.0.1:0").expect("bound").thread_per_connection(handler).expect("running");
    (running, release, requests)
}

fn until(condition: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed() < TIMEOUT, "timed out");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn without_a_queue_the_limit_is_reported_at_once() {
    let (server, release, requests) = slow_server();
    let url = format!("http://{}/", server.local_addr().expect("bound"));
    let loops = Loops::new(1);
    let client = Client::builder().max_connections(1).max_queued(0).build();
    let first = fetch(&client, &loops.loops[0], client::Request::get(&url));
    until(|| requests.load(Ordering::SeqCst) == 1);
    assert_eq!(wait(&fetch(&client, &loops.loops[0], client::Request::get(&url))), Err(Error::QueueFull));
    release.send(()).expect("a receiver");
    assert!(wait(&first).is_ok());
    // The idle connection serves the next request.
    release.send(()).expect("a receiver");
    assert!(wait(&fetch(&client, &loops.loops[0], client::Request::get(&url))).is_ok());
}

#[test]
fn requests_beyond_the_limit_are_queued() {
    let (server, release, requests) = slow_server();
    let url = format!("http://{}/", server.local_addr().expect("bound"));
    let loops = Loops::new(1);
    let client = Client::builder().max_connections(2).max_queued(3).build();
    let results: Vec<_> = (0..5).map(|_| fetch(&client, &loops.loops[0], client::Request::get(&url))).collect();
    until(|| requests.load(Ordering::SeqCst) == 2);
    assert_eq!(client.connections(), 2);
    assert_eq!(wait(&fetch(&client, &loops.loops[0], client::Request::get(&url))), Err(Error::QueueFull));
    for _ in 0..5 {
        release.send(()).expect("a receiver");
    }
    assert!(results.iter().all(|result| wait(result).is_ok()));
    assert_eq!((client.connections(), client.idle_connections()), (2, 2));
    client.close_idle();
    until(|| client.connections() == 0);
    server.stop_now().expect("ended");
    loops.running.stop_now().expect("ended");
}

/// The client may be dropped while requests are in progress, queued, or on their way to a connection.
#[test]
fn a_dropped_client_completes_its_requests() {
    let (server, release, requests) = slow_server();
    let url = format!("http://{}/", server.local_addr().expect("bound"));
    let loops = Loops::new(2);
    let client = Client::builder().max_connections(1).build();
    let results: Vec<_> = (0..6).map(|n| fetch(&client, &loops.loops[n / 2 % 2], client::Request::get(&url))).collect();
    until(|| requests.load(Ordering::SeqCst) == 1);
    drop(client);
    for _ in 0..6 {
        release.send(()).expect("a receiver");
    }
    assert!(results.iter().all(|result| wait(result).is_ok()));
    // The connections are closed, so the server has none to wait for.
    server.stop_handle().shutdown(TIMEOUT);
    server.join().expect("ended");
    loops.running.stop_now().expect("ended");
}

#[test]
fn a_queued_request_times_out() {
    let (server, release, requests) = slow_server();
    let url = format!("http://{}/", server.local_addr().expect("bound"));
    let loops = Loops::new(1);
    let client = Client::builder().max_connections(1).build();
    let first = fetch(&client, &loops.loops[0], client::Request::get(&url));
    until(|| requests.load(Ordering::SeqCst) == 1);
    let error = |request: client::Request| wait(&fetch(&client, &loops.loops[0], request)).expect_err("a timeout");
    assert_eq!(
        error(client::Request::get(&url).connect_timeout(Duration::from_millis(50))),
        Error::TimedOut(Timeout::Connect)
    );
    assert_eq!(error(client::Request::get(&url).timeout(Duration::from_millis(50))), Error::TimedOut(Timeout::Total));
    release.send(()).expect("a receiver");
    assert!(wait(&first).is_ok());
    // A request that has timed out is not sent later.
    release.send(()).expect("a receiver");
    assert!(wait(&fetch(&client, &loops.loops[0], client::Request::get(&url))).is_ok());
    assert_eq!(requests.load(Ordering::SeqCst), 2);
    server.stop_now().expect("ended");
    loops.running.stop_now().expect("ended");
}

#[test]
fn loops_share_the_limit_and_none_starves() {
    let (server, release, _) = slow_server();
    let url = format!("http://{}/", server.local_addr().expect("bound"));
    let loops = Loops::new(2);
    let client = Client::builder().max_connections(1).build();
    let results: Vec<_> = (0..60).map(|n| fetch(&client, &loops.loops[n % 2], client::Request::get(&url))).collect();
    for _ in 0..60 {
        release.send(()).expect("a receiver");
    }
    assert!(results.iter().all(|result| wait(result).is_ok()));
    assert_eq!(client.connections(), 1);
    // The idle connection belongs to one loop; a request on the other loop replaces it.
    release.send(()).expect("a receiver");
    release.send(()).expect("a receiver");
    assert!(
        loops.loops.iter().all(|loop_handle| wait(&fetch(&client, loop_handle, client::Request::get(&url))).is_ok())
    );
    assert_eq!(client.connections(), 1);
    server.stop_now().expect("ended");
    loops.running.stop_now().expect("ended");
}

#[test]
fn results_arrive_on_the_loop_of_their_request() {
    let server = Server::bind("127.0.0.1:0").expect("bound").threads(1, |_: &mut Request<'_>| Response::text("x"));
    let server = server.expect("running");
    let url = format!("http://{}/", server.local_addr().expect("bound"));
    let loops = Loops::new(2);
    let client = Client::new();
    for loop_handle in &loops.loops {
        let names: Vec<_> = (0..10)
            .map(|_| {
                let (sender, result) = channel();
                client.send_collect(loop_handle, client::Request::get(&url), 100, move |result| {
                    sender.send((result, std::thread::current().id())).expect("a receiver");
                });
                let (result, thread) = wait(&result);
                assert!(result.is_ok());
                thread
            })
            .collect();
        assert!(names.iter().all(|name| *name == names[0]));
    }
    assert_eq!(client.connections(), 2, "one for each loop");
    server.stop_now().expect("ended");
    loops.running.stop_now().expect("ended");
}

#[test]
fn connections_rotate() {
    let server = Scripted::new(3, |_, mut peer| {
        while let Some(received) = peer.request() {
            peer.send(ok(received.get("connection").unwrap_or("none")));
            if received.get("connection").is_some() {
                assert!(peer.is_closed());
                return;
            }
        }
    });
    let client = Client::builder().rotate(Duration::from_millis(300)).build();
    let mut values = Vec::new();
    while values.iter().filter(|value| *value == "close").count() < 2 {
        let response = client.call_blocking(client::Request::get(&server.url("/"))).expect("a response");
        values.push(String::from_utf8(response.body).expect("text"));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(values[0], "none");
    assert!(values.iter().filter(|value| *value == "none").count() > 2);
    assert_eq!(
        client.call_blocking(client::Request::get(&server.url("/")).fresh()).expect("a response").body,
        b"close"
    );
    server.join();
}

#[test]
fn idle_connections_are_few_and_short_lived() {
    let barrier = Arc::new(Barrier::new(3));
    let in_handler = barrier.clone();
    let handler = move |_: &mut Request<'_>| {
        in_handler.wait();
        Response::text("x")
    };
    let server = Server::bind("127.0.0.1:0").expect("bound").thread_per_connection(handler).expect("running");
    let url = format!("http://{}/", server.local_addr().expect("bound"));
    let loops = Loops::new(1);
    let client = Client::builder().max_idle(2).pool_idle_timeout(Duration::from_millis(300)).build();
    let results: Vec<_> = (0..3).map(|_| fetch(&client, &loops.loops[0], client::Request::get(&url))).collect();
    assert!(results.iter().all(|result| wait(result).is_ok()));
    until(|| client.connections() <= 2);
    until(|| client.connections() == 0);
    server.stop_now().expect("ended");
    loops.running.stop_now().expect("ended");
}

#[test]
fn a_dropped_or_discarded_response_closes_the_connection() {
    let body = "x".repeat(1 << 20);
    let server = Scripted::new(3, move |_, mut peer| while peer.respond(ok(&body)) {});
    let loops = Loops::new(1);
    let client = Client::new();
    let send = |then: fn(client::Response)| {
        let (sender, result) = channel();
        client.send(&loops.loops[0], client::Request::get(&server.url("/")), move |result| {
            then(result.expect("a response"));
            sender.send(()).expect("a receiver");
        });
        wait(&result);
        until(|| client.connections() == 0);
    };
    send(drop);
    // Too long to be read only for reuse.
    send(client::Response::discard);
    send(|response| drop(response.pipe()));
    server.join();
    loops.running.stop_now().expect("ended");
}

#[test]
fn a_response_can_be_used_later_on_another_thread() {
    let server = Scripted::new(1, move |_, mut peer| while peer.respond(ok("hello")) {});
    let loops = Loops::new(1);
    let client = Client::new();
    let (sender, result) = channel();
    client.send(&loops.loops[0], client::Request::get(&server.url("/")), move |result| {
        sender.send(result).expect("a receiver");
    });
    let response = wait(&result).expect("a response");
    let (sender, result) = channel();
    let (end_sender, end) = channel();
    response
        .on_end(move |result| end_sender.send(result).expect("a receiver"))
        .collect(5, move |result| sender.send(result).expect("a receiver"));
    assert_eq!(wait(&result).expect("a body").body, b"hello");
    assert_eq!(wait(&end), Ok(()));
    assert_eq!(client.idle_connections(), 1);
    // Held until the timeout has passed.
    let (sender, result) = channel();
    let request = client::Request::get(&server.url("/")).timeout(Duration::from_millis(50));
    client.send(&loops.loops[0], request, move |result| sender.send(result).expect("a receiver"));
    let response = wait(&result).expect("a response");
    until(|| client.connections() == 0);
    let (sender, result) = channel();
    response.collect(5, move |result| sender.send(result).expect("a receiver"));
    assert_eq!(wait(&result), Err(Error::TimedOut(Timeout::Total)));
    server.join();
    loops.running.stop_now().expect("ended");
}

#[test]
fn requests_fail_when_their_loop_ends() {
    let (release, blocked) = channel::<()>();
    let server = Scripted::new(1, move |_, mut peer| {
        peer.request().expect("a request");
        let _ = blocked.recv_timeout(TIMEOUT);
    });
    let loops = Loops::new(1);
    let client = Client::builder().max_connections(1).build();
    let results: Vec<_> =
        (0..3).map(|_| fetch(&client, &loops.loops[0], client::Request::get(&server.url("/")))).collect();
    until(|| server.accepted() == 1);
    let loop_handle = loops.loops[0].clone();
    loops.running.stop_now().expect("ended");
    for result in results {
        assert_eq!(wait(&result), Err(Error::LoopEnded));
    }
    assert_eq!(wait(&fetch(&client, &loop_handle, client::Request::get(&server.url("/")))), Err(Error::LoopEnded));
    until(|| client.connections() == 0);
    drop(release);
    server.join();
}

#[test]
fn a_request_queued_behind_another_loop_fails_when_its_own_ends() {
    let (server, release, requests) = slow_server();
    let url = format!("http://{}/", server.local_addr().expect("bound"));
    let (loops, others) = (Loops::new(1), Loops::new(1));
    let client = Client::builder().max_connections(1).build();
    let first = fetch(&client, &others.loops[0], client::Request::get(&url));
    until(|| requests.load(Ordering::SeqCst) == 1);
    let queued = fetch(&client, &loops.loops[0], client::Request::get(&url));
    loops.running.stop_now().expect("ended");
    assert_eq!(wait(&queued), Err(Error::LoopEnded));
    release.send(()).expect("a receiver");
    assert!(wait(&first).is_ok());
    server.stop_now().expect("ended");
    others.running.stop_now().expect("ended");
}

#[test]
fn a_panic_costs_one_connection() {
    let server = Scripted::new(3, move |_, mut peer| while peer.respond(ok("hello")) {});
    let loops = Loops::new(1);
    let client = Client::new();
    client.send(&loops.loops[0], client::Request::get(&server.url("/")), |_| panic!("by the application"));
    until(|| server.accepted() == 1 && client.connections() == 0);
    // When the connection is idle already.
    client.send_collect(&loops.loops[0], client::Request::get(&server.url("/")), 100, |_| panic!("by the application"));
    until(|| server.accepted() == 2 && client.connections() == 0);
    assert_eq!(
        wait(&fetch(&client, &loops.loops[0], client::Request::get(&server.url("/")))).expect("a response").body,
        b"hello"
    );
    drop(client);
    server.join();
    loops.running.stop_now().expect("ended");
}

#[test]
fn a_graceful_stop_finishes_requests_in_progress() {
    let (server, release, requests) = slow_server();
    let url = format!("http://{}/", server.local_addr().expect("bound"));
    let loops = Loops::new(1);
    let client = Client::new();
    release.send(()).expect("a receiver");
    assert!(wait(&fetch(&client, &loops.loops[0], client::Request::get(&url))).is_ok());
    let result = fetch(&client, &loops.loops[0], client::Request::get(&url));
    until(|| requests.load(Ordering::SeqCst) == 2);
    loops.running.stop_handle().shutdown(TIMEOUT);
    release.send(()).expect("a receiver");
    assert!(wait(&result).is_ok());
    loops.running.join().expect("ended");
    assert_eq!(client.connections(), 0);
    server.stop_now().expect("ended");
}
