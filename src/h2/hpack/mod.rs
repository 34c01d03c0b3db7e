//! HPACK (RFC 7541): the compression of fields in HTTP/2, without I/O and without dependencies.
//!
//! ```text
//!                    ┌─ index ────▶ static table (61) │ dynamic table ──▶ slices of the table ─┐
//!   block ─▶ Decoder ┤                                     ▲ add                               ├─▶ field(name, value)
//!                    └─ literal ──▶ plain: slices of the block, Huffman: slices of `scratch` ──┘
//!
//!                                   ┌─ in a table ──▶ index
//!   field(name, value) ─▶ Encoder ──┤                                              ──▶ block
//!                                   └─ otherwise ───▶ literal without Huffman, added to the table if it may repeat
//! ```
//! | file | contents |
//! |---|---|
//! | `primitive` | integers and strings (§5) |
//! | `huffman` | the code of Appendix B: the decoder |
//! | `table` | the static table (Appendix A) and the dynamic table (§2.3.2, §4) |
//! | `decoder` | blocks of the peer |
//! | `encoder` | blocks for the peer |
//!
//! A client repeats most fields in all requests of a connection: those are one byte each, which is an index. So the
//! decoder copies nothing and allocates nothing for an index. It gives out slices of the table.
//!
//! The decoder accepts all of RFC 7541, and a table of 4,096 bytes, which is the default that a client may use before it
//! has seen SETTINGS. The encoder is free in what it uses. It has a table of at most 1,024 bytes, which is enough for
//! the fields that a server repeats. It writes literals without Huffman: that costs some bytes once, for fields that
//! are in the table afterwards.
//!
//! Memory of an idle connection: the entries of both tables, and nothing for a table that was not used. `scratch` can be
//! given back between blocks ([`Decoder::rest`]).

mod decoder;
mod encoder;
mod huffman;
mod primitive;
mod table;

#[cfg(test)]
mod tests;

pub(crate) use decoder::Decoder;
pub(crate) use encoder::Encoder;
pub(crate) use table::{Known, Valid};
