//! The interface of GNU libmicrohttpd 1.0 on uncork: a `libmicrohttpd.so.12` that C programs load instead of the
//! original, without being recompiled. `README.md` beside this crate is for its users.
//!
//! ```text
//!   C program ─▶ exported functions ─▶ daemon    start, stop; options
//!                                      response  what is sent, and its header
//!                                      request   queue, suspend, resume; info; values
//!   C program ◀─ its callbacks ◀────── flow      uncork's Handler and Upload, on the loops
//! ```
//!
//! Rules of this crate:
//!
//! - Only uncork's public names are used. What they lack is missing for everybody, and is added there.
//! - `unsafe` is where C is: pointers that C passes, and callbacks of C. Each block has its reason.
//! - Nothing unwinds into C (`export!`), and a wrong argument gets the documented failure.
//! - No lock is held while C is called: it may call anything.

#![allow(non_snake_case, non_camel_case_types, reason = "the names are those of the C interface")]

#[macro_use]
mod boundary;
mod connection;
mod daemon;
mod external;
mod flow;
mod info;
mod listen;
mod logging;
mod memory;
mod notify;
mod options;
mod request;
mod response;
mod response_fields;
mod stream;
mod strings;
mod suspend;
mod types;
mod unavailable;
mod values;
mod variadic;
