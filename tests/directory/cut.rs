//! A proxy in front of a server that can be cut: its connections end, and new ones are closed until it is mended.

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

pub(crate) struct Cut {
    port: u16,
    is_cut: Arc<AtomicBool>,
    /// Both ends of each connection, by its number.
    connections: Arc<Mutex<HashMap<usize, [TcpStream; 2]>>>,
}

impl Cut {
    pub(crate) fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let port = listener.local_addr().expect("bound").port();
        let (is_cut, connections) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(HashMap::new())));
        let cut = Self { port, is_cut: is_cut.clone(), connections: connections.clone() };
        thread::spawn(move || {
            for (number, client) in listener.incoming().map_while(Result::ok).enumerate() {
                if is_cut.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(upstream) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                let pair = || (client.try_clone().expect("cloned"), upstream.try_clone().expect("cloned"));
                let ((a, b), (c, d)) = (pair(), pair());
                connections.lock().expect("not poisoned").insert(number, [client, upstream]);
                thread::spawn(move || copy(a, b));
                let connections = connections.clone();
                let is_cut = is_cut.clone();
                thread::spawn(move || {
                    // It may have been accepted just before the cut.
                    if is_cut.load(Ordering::SeqCst) {
                        end(&c, &d);
                    }
                    copy(d, c);
                    connections.lock().expect("not poisoned").remove(&number);
                });
            }
        });
        cut
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        for [client, upstream] in self.connections.lock().expect("not poisoned").values() {
            end(client, upstream);
        }
    }

    pub(crate) fn mend(&self) {
        self.is_cut.store(false, Ordering::SeqCst);
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut block = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = from.read(&mut block) {
        if to.write_all(&block[..n]).is_err() {
            break;
        }
    }
    end(&from, &to);
}

fn end(client: &TcpStream, upstream: &TcpStream) {
    let _ = client.shutdown(Shutdown::Both);
    let _ = upstream.shutdown(Shutdown::Both);
}
