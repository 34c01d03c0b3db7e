//! A network that the test can interrupt, between a browser and a program.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

/// Passes connections on to a program.
pub(crate) struct Network {
    pub(crate) addr: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    is_down: AtomicBool,
    /// Connections made so far.
    count: AtomicUsize,
    /// Of the connections made so far, those before this one lose what is sent.
    lossy: AtomicUsize,
    /// Both ends of all connections and their numbers, which keeps them open.
    ends: Mutex<Vec<(usize, [TcpStream; 2])>>,
}

impl Network {
    pub(crate) fn to(program: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let (addr, shared) = (listener.local_addr().expect("an address"), Arc::<Shared>::default());
        let its = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // While it is locked, `down` does not end the connections, so it ends this one, too.
                let mut ends = its.ends.lock().expect("unpoisoned");
                // For a browser, a connection that ends at once has failed.
                if its.is_down.load(Ordering::SeqCst) {
                    continue;
                }
                let server = TcpStream::connect(program).expect("connected");
                let number = its.count.fetch_add(1, Ordering::SeqCst);
                let clone = |end: &TcpStream| end.try_clone().expect("cloned");
                ends.push((number, [clone(&client), clone(&server)]));
                drop(ends);
                for (from, to) in [(clone(&client), clone(&server)), (server, client)] {
                    let its = its.clone();
                    thread::spawn(move || its.pass(number, from, to));
                }
            }
        });
        Self { addr, shared }
    }

    /// Ends all connections. Those that follow end at once, until [`up`](Self::up).
    pub(crate) fn down(&self) {
        self.shared.is_down.store(true, Ordering::SeqCst);
        self.end(|_| true);
    }

    pub(crate) fn up(&self) {
        self.shared.is_down.store(false, Ordering::SeqCst);
    }

    /// Loses all that is sent on the present connections, and their ends, too. Later connections work.
    pub(crate) fn lose(&self) {
        self.shared.lossy.store(self.shared.count.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// Ends the connections that [`lose`](Self::lose) has left open.
    pub(crate) fn end_lost(&self) {
        let lost = self.shared.lossy.load(Ordering::SeqCst);
        self.end(|number| number < lost);
    }

    fn end(&self, which: impl Fn(usize) -> bool) {
        self.shared.ends.lock().expect("unpoisoned").retain(|(number, ends)| {
            let ended = which(*number);
            if ended {
                // An error means that it has ended already.
                ends.iter().for_each(|end| drop(end.shutdown(Shutdown::Both)));
            }
            !ended
        });
    }
}

impl Shared {
    fn pass(&self, number: usize, mut from: TcpStream, mut to: TcpStream) {
        let mut block = vec![0; 16 * 1024];
        loop {
            let n = from.read(&mut block).unwrap_or(0);
            let is_lost = number < self.lossy.load(Ordering::SeqCst);
            if n == 0 {
                if !is_lost {
                    let _ = to.shutdown(Shutdown::Write);
                }
                return;
            }
            if !is_lost && to.write_all(&block[..n]).is_err() {
                return;
            }
        }
    }
}
