//! HTTP/2 frame by frame: what a client must not send, what a server must send then, and what an attack costs.
//!
//! ```text
//!   Case { section, what, sent, want } ──▶ Peer ──frames──▶ a server ──▶ GOAWAY │ RST_STREAM │ a response │ the end
//! ```
//! | file | content |
//! |---|---|
//! | `peer` | a client that sends any frames |
//! | `cases` | a case, and how it is judged |
//! | `counted` | a server that counts what it holds |
//! | `clocks` | clients that stop in the middle |
//! | `release` | clients that leave |
//! | `costs` | what attacks cost |
//! | `plain_on_tls` | clients that should have used TLS |
//! | `valid`, `connection`, `frames`, `messages`, `hpack` | the cases, by the sections of RFC 9113 and RFC 7541 |

#![expect(clippy::disallowed_methods, reason = "the tests measure time, and let it pass")]

mod cases;
mod clocks;
mod connection;
mod costs;
mod counted;
mod frames;
mod hpack;
mod messages;
mod peer;
mod plain_on_tls;
mod release;
mod valid;
