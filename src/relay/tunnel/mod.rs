//! The reverse tunnel: a server behind NAT, reached through the relay.
//!
//! ```text
//!   client ──HTTP──▶ ┌───┐                                      ┌───┐
//!   client ──HTTP──▶ │ P │ ◀══ one connection, dialled by C ════ │ C │ ──▶ a handler, as any server has
//!   client ──HTTP──▶ └───┘ ══ HTTP/2, with P as the client ═══▶ └───┘
//! ```
//! The origin (C) dials the proxy (P), over TLS, and asks for names; from then on it serves, through that connection,
//! what P's public clients ask of those names.
//!
//! | file | knows |
//! |---|---|
//! | `wire` | how the `h2` crate runs on an upgraded connection |
//! | `wakes` | which of a connection's streams are to be looked at again |

#![expect(dead_code, reason = "the proxy and the origin are being built on it")]

mod wakes;
mod wire;
