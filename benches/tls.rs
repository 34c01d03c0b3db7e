//! The cost of rustls itself for the bytes of a TLS relay, in memory: a server decrypts what one client sends, and
//! encrypts it for another. The clients' part and sockets are not measured. Run it with
//! `cargo bench -p uncork-benches --bench tls`.
//!
//! A relay from TLS to TLS cannot be cheaper than this and its system calls (`read` and `write` of the ciphertext);
//! the rest is its own cost.

use std::{
    io::{Read, Write},
    sync::Arc,
};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rustls::{
    ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
};

/// The size of a pipe's block.
const BLOCK: usize = 256 * 1024;

/// Both ends of one connection.
struct Pair {
    client: Connection,
    server: Connection,
}

impl Pair {
    fn new(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Self {
        let name = ServerName::try_from("localhost").expect("a name");
        let mut pair = Self {
            client: ClientConnection::new(client.clone(), name).expect("a client").into(),
            server: ServerConnection::new(server.clone()).expect("a server").into(),
        };
        pair.client.set_buffer_limit(None);
        pair.server.set_buffer_limit(None);
        while pair.client.is_handshaking() || pair.server.is_handshaking() || pair.server.wants_write() {
            let from_client = sealed(&mut pair.client, &[]);
            opened(&mut pair.server, &from_client, &mut []);
            let from_server = sealed(&mut pair.server, &[]);
            opened(&mut pair.client, &from_server, &mut []);
        }
        pair
    }
}

/// Returns the records of `plain`.
fn sealed(from: &mut Connection, plain: &[u8]) -> Vec<u8> {
    let mut records = Vec::with_capacity(plain.len() + plain.len() / 256 + 4096);
    from.writer().write_all(plain).expect("no limit");
    while from.wants_write() {
        from.write_tls(&mut records).expect("in memory");
    }
    records
}

/// Reads the records, and returns their content.
fn opened(to: &mut Connection, mut records: &[u8], plain: &mut [u8]) {
    let mut at = 0;
    while !records.is_empty() {
        to.read_tls(&mut records).expect("in memory");
        to.process_new_packets().expect("good records");
        while at < plain.len()
            && let Ok(n) = to.reader().read(&mut plain[at..])
        {
            at += n;
        }
    }
    assert_eq!(at, plain.len());
}

fn relay(c: &mut Criterion) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a root");
    let server = ServerConfig::builder().with_no_client_auth();
    let server = Arc::new(server.with_single_cert(vec![made.cert.der().clone()], key).expect("a good pair"));
    let client = Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth());

    let (mut from, mut to) = (Pair::new(&client, &server), Pair::new(&client, &server));
    let block: Vec<u8> = (0..BLOCK).map(|i| (i % 251) as u8).collect();
    let mut plain = vec![0; BLOCK];
    let mut group = c.benchmark_group("tls");
    group.throughput(Throughput::Bytes(BLOCK as u64));
    group.bench_function("decrypt_and_encrypt", |b| {
        b.iter_batched(
            // Each block is decrypted once: the records are numbered.
            || sealed(&mut from.client, &block),
            |records| {
                opened(&mut from.server, &records, &mut plain);
                sealed(&mut to.server, &plain)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, relay);
criterion_main!(benches);
