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

use crate::scripted::{PATIENCE, Scripted, ok};

/// Loops for the calls.
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

type Result_<T> = Result<T, Error>;

fn fetch(client: &Client, on: &LoopHandle, call: client::Request) -> Receiver<Result_<FullResponse>> {
    let (tell, told) = channel();
    client.send_collect(on, call, 1 << 20, move |result| drop(tell.send(result)));
    told
}

fn wait<T>(told: &Receiver<T>) -> T {
    told.recv_timeout(PATIENCE).expect("told")
}

/// Counts connections, and how many exist at once. The test decides when a request gets its response.
fn slow_server() -> (Running, Sender<()>, Arc<AtomicUsize>) {
    let (go, gate) = channel::<()>();
    let gate = Arc::new(std::sync::Mutex::new(gate));
    let came = Arc::new(AtomicUsize::new(0));
    let counter = came.clone();
    let handler = move |_: &mut Request<'_>| {
        counter.fetch_add(1, Ordering::SeqCst);
        let _ = gate.lock().expect("no panic").recv_timeout(PATIENCE);
        Response::text("done")
    };
    let running = Server::bind("127.0.0.1:0").expect("bound").thread_per_connection(handler).expect("running");
    (running, go, came)
}

fn until(what: impl Fn() -> bool) {
    let patience = std::time::Instant::now();
    while !what() {
        assert!(patience.elapsed() < PATIENCE, "in vain");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn without_a_queue_the_limit_is_told_at_once() {
    let (server, go, came) = slow_server();
    let url = format!("http://{}/", server.local_addr().expect("bound"));
    let loops = Loops::new(1);
    let client = Client::builder().max_connections(1).max_queued(0).build();
    let first = fetch(&client, &loops.loops[0], client::Request::get(&url));
    until(|| came.load(Ordering::SeqCst) == 1);
    assert_eq!(wait(&fetch(&client, &loops.loops[0], client::Request::get(&url))), Err(Error::QueueFull));
    go.send(()).expect("the expected event");
    assert!(wait(&first).is_ok());
    // The idle connection serves the next request.
    go.send(()).expect("the expected event");
    assert!(wait(&fetch(&client, &loops.loops[0], client::Request::get(&url))).is_ok());
}

#[test]
fn calls_beyond_the_limit_wait_their_turn() {
    let (server, go, came) = slow_server();
    let url = format!("http://{}/", server.local_addr().expect("bound"));
    let loops = Loops::new(1);
    let client = Client::builder().max_connections(2).max_queued(3).build();
    let told: Vec<_> = (0..5).map(|_| fetch(&client, &loops.loops[0], client::Request::get(&url))).collect();
    until(|| came.load(Ordering::SeqCst) == 2);
    assert_eq!(client.connections(), 2);
    assert_eq!(wait(&fetch(&client, &loops.loops[0], client::Request::get(&url))), Err(Error::QueueFull));
    for _ in 0..5 {
        go.send(()).expect("the expected event");
    }
    assert!(told.iter().all(|told| wait(told).is_ok()));
    assert_eq!((client.connections(), client.idle_connections()), (2, 2));
    client.close_idle();
    until(|| client.connections() == 0);
    server.stop().expect("ended");
    loops.running.stop().expect("ended");
}

#[test]
fn who_waits_has_a_deadline() {
    let (server, go, came) = slow_server();
    let url = format!("http://{}/", server.local_addr().expect("bound"));
    let loops = Loops::new(1);
    let client = Client::builder().max_connections(1).build();
    let first = fetch(&client, &loops.loops[0], client::Request::get(&url));
    until(|| came.load(Ordering::SeqCst) == 1);
    let late = |call: client::Request| wait(&fetch(&client, &loops.loops[0], call)).expect_err("late");
    assert_eq!(
        late(client::Request::get(&url).connect_timeout(Duration::from_millis(50))),
        Error::TimedOut(Timeout::Connect)
    );
    assert_eq!(late(client::Request::get(&url).timeout(Duration::from_millis(50))), Error::TimedOut(Timeout::Total));
    go.send(()).expect("the expected event");
    assert!(wait(&first).is_ok());
    // A request that has timed out is not sent later.
    go.send(()).expect("the expected event");
    assert!(wait(&fetch(&client, &loops.loops[0], client::Request::get(&url))).is_ok());
    assert_eq!(came.load(Ordering::SeqCst), 2);
    server.stop().expect("ended");
    loops.running.stop().expect("ended");
}

#[test]
fn loops_share_the_limit_and_nobody_starves() {
    let (server, go, _) = slow_server();
    let url = format!("http://{}/", server.local_addr().expect("bound"));
    let loops = Loops::new(2);
    let client = Client::builder().max_connections(1).build();
    let told: Vec<_> = (0..60).map(|n| fetch(&client, &loops.loops[n % 2], client::Request::get(&url))).collect();
    for _ in 0..60 {
        go.send(()).expect("the expected event");
    }
    assert!(told.iter().all(|told| wait(told).is_ok()));
    assert_eq!(client.connections(), 1);
    // The idle connection belongs to one loop; a call on the other loop replaces it.
    go.send(()).expect("the expected event");
    go.send(()).expect("the expected event");
    assert!(loops.loops.iter().all(|here| wait(&fetch(&client, here, client::Request::get(&url))).is_ok()));
    assert_eq!(client.connections(), 1);
    server.stop().expect("ended");
    loops.running.stop().expect("ended");
}

#[test]
fn calls_are_answered_on_their_loop() {
    let server = Server::bind("127.0.0.1:0").expect("bound").threads(1, |_: &mut Request<'_>| Response::text("x"));
    let server = server.expect("running");
    let url = format!("http://{}/", server.local_addr().expect("bound"));
    let loops = Loops::new(2);
    let client = Client::new();
    for here in &loops.loops {
        let names: Vec<_> = (0..10)
            .map(|_| {
                let (tell, told) = channel();
                client.send_collect(here, client::Request::get(&url), 100, move |result| {
                    tell.send((result, std::thread::current().id())).expect("the expected event");
                });
                let (result, thread) = wait(&told);
                assert!(result.is_ok());
                thread
            })
            .collect();
        assert!(names.iter().all(|name| *name == names[0]));
    }
    assert_eq!(client.connections(), 2, "one for each loop");
    server.stop().expect("ended");
    loops.running.stop().expect("ended");
}

#[test]
fn connections_rotate() {
    let server = Scripted::new(3, |_, mut peer| {
        while let Some(asked) = peer.asked() {
            peer.send(ok(asked.get("connection").unwrap_or("none")));
            if asked.get("connection").is_some() {
                assert!(peer.is_closed());
                return;
            }
        }
    });
    let client = Client::builder().rotate(Duration::from_millis(300)).build();
    let mut said = Vec::new();
    while said.iter().filter(|said| *said == "close").count() < 2 {
        let whole = client.call_blocking(client::Request::get(&server.url("/"))).expect("a response");
        said.push(String::from_utf8(whole.body).expect("text"));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(said[0], "none");
    assert!(said.iter().filter(|said| *said == "none").count() > 2);
    assert_eq!(
        client.call_blocking(client::Request::get(&server.url("/")).fresh()).expect("a response").body,
        b"close"
    );
    server.over();
}

#[test]
fn idle_connections_are_few_and_short_lived() {
    let barrier = Arc::new(Barrier::new(3));
    let meeting = barrier.clone();
    let handler = move |_: &mut Request<'_>| {
        meeting.wait();
        Response::text("x")
    };
    let server = Server::bind("127.0.0.1:0").expect("bound").thread_per_connection(handler).expect("running");
    let url = format!("http://{}/", server.local_addr().expect("bound"));
    let loops = Loops::new(1);
    let client = Client::builder().max_idle(2).pool_idle_timeout(Duration::from_millis(300)).build();
    let told: Vec<_> = (0..3).map(|_| fetch(&client, &loops.loops[0], client::Request::get(&url))).collect();
    assert!(told.iter().all(|told| wait(told).is_ok()));
    until(|| client.connections() <= 2);
    until(|| client.connections() == 0);
    server.stop().expect("ended");
    loops.running.stop().expect("ended");
}

#[test]
fn an_answer_that_is_dropped_or_forgotten() {
    let body = "x".repeat(1 << 20);
    let server = Scripted::new(3, move |_, mut peer| while peer.answer(ok(&body)) {});
    let loops = Loops::new(1);
    let client = Client::new();
    let send = |then: fn(client::Response)| {
        let (tell, told) = channel();
        client.send(&loops.loops[0], client::Request::get(&server.url("/")), move |result| {
            then(result.expect("a response"));
            tell.send(()).expect("the expected event");
        });
        wait(&told);
        until(|| client.connections() == 0);
    };
    send(drop);
    // Too long to be read only for reuse.
    send(client::Response::discard);
    send(|answer| drop(answer.pipe()));
    server.over();
    loops.running.stop().expect("ended");
}

#[test]
fn decided_later_and_elsewhere() {
    let server = Scripted::new(1, move |_, mut peer| while peer.answer(ok("hello")) {});
    let loops = Loops::new(1);
    let client = Client::new();
    let (tell, told) = channel();
    client.send(&loops.loops[0], client::Request::get(&server.url("/")), move |result| {
        tell.send(result).expect("the expected event");
    });
    let answer = wait(&told).expect("a response");
    let (tell, told) = channel();
    let (tell_end, end) = channel();
    answer
        .on_end(move |result| tell_end.send(result).expect("the expected event"))
        .collect(5, move |result| tell.send(result).expect("the expected event"));
    assert_eq!(wait(&told).expect("a body").body, b"hello");
    assert_eq!(wait(&end), Ok(()));
    assert_eq!(client.idle_connections(), 1);
    // Held until it is too late.
    let (tell, told) = channel();
    let call = client::Request::get(&server.url("/")).timeout(Duration::from_millis(50));
    client.send(&loops.loops[0], call, move |result| tell.send(result).expect("the expected event"));
    let answer = wait(&told).expect("a response");
    until(|| client.connections() == 0);
    let (tell, told) = channel();
    answer.collect(5, move |result| tell.send(result).expect("the expected event"));
    assert_eq!(wait(&told), Err(Error::TimedOut(Timeout::Total)));
    server.over();
    loops.running.stop().expect("ended");
}

#[test]
fn a_loop_that_ends_leaves_nobody_waiting() {
    let (go, gate) = channel::<()>();
    let server = Scripted::new(1, move |_, mut peer| {
        peer.asked().expect("a request");
        let _ = gate.recv_timeout(PATIENCE);
    });
    let loops = Loops::new(1);
    let client = Client::builder().max_connections(1).build();
    let told: Vec<_> =
        (0..3).map(|_| fetch(&client, &loops.loops[0], client::Request::get(&server.url("/")))).collect();
    until(|| server.came() == 1);
    let here = loops.loops[0].clone();
    loops.running.stop().expect("ended");
    for told in told {
        assert_eq!(wait(&told), Err(Error::LoopEnded));
    }
    assert_eq!(wait(&fetch(&client, &here, client::Request::get(&server.url("/")))), Err(Error::LoopEnded));
    until(|| client.connections() == 0);
    drop(go);
    server.over();
}

#[test]
fn who_waits_for_another_loop_learns_that_its_own_has_ended() {
    let (server, go, came) = slow_server();
    let url = format!("http://{}/", server.local_addr().expect("bound"));
    let (loops, others) = (Loops::new(1), Loops::new(1));
    let client = Client::builder().max_connections(1).build();
    let first = fetch(&client, &others.loops[0], client::Request::get(&url));
    until(|| came.load(Ordering::SeqCst) == 1);
    let waiting = fetch(&client, &loops.loops[0], client::Request::get(&url));
    loops.running.stop().expect("ended");
    assert_eq!(wait(&waiting), Err(Error::LoopEnded));
    go.send(()).expect("the expected event");
    assert!(wait(&first).is_ok());
    server.stop().expect("ended");
    others.running.stop().expect("ended");
}

#[test]
fn a_panic_costs_one_connection() {
    let server = Scripted::new(2, move |_, mut peer| while peer.answer(ok("hello")) {});
    let loops = Loops::new(1);
    let client = Client::new();
    client.send(&loops.loops[0], client::Request::get(&server.url("/")), |_| panic!("the application's"));
    until(|| server.came() == 1 && client.connections() == 0);
    assert_eq!(
        wait(&fetch(&client, &loops.loops[0], client::Request::get(&server.url("/")))).expect("a response").body,
        b"hello"
    );
    drop(client);
    server.over();
    loops.running.stop().expect("ended");
}

#[test]
fn a_graceful_stop_finishes_what_is_under_way() {
    let (server, go, came) = slow_server();
    let url = format!("http://{}/", server.local_addr().expect("bound"));
    let loops = Loops::new(1);
    let client = Client::new();
    go.send(()).expect("the expected event");
    assert!(wait(&fetch(&client, &loops.loops[0], client::Request::get(&url))).is_ok());
    let told = fetch(&client, &loops.loops[0], client::Request::get(&url));
    until(|| came.load(Ordering::SeqCst) == 2);
    loops.running.stop_handle().shutdown(PATIENCE);
    go.send(()).expect("the expected event");
    assert!(wait(&told).is_ok());
    loops.running.join().expect("ended");
    assert_eq!(client.connections(), 0);
    server.stop().expect("ended");
}
