//! The interface of GNU libmicrohttpd 1.0 on uncork: a `libmicrohttpd.so.12` that C programs load instead of the
//! original, without being recompiled. `README.md` beside this crate is for its users.
//!
//! ```text
//!   C program ─▶ exported functions: daemon, external    start and stop, the program's own loop
//!                                    create, response_headers, request    what is sent
//!                                    lookup, info, suspend    what a request has, and pausing it
//!                                    post    the fields of a form
//!                                    basic, digest    who has sent it
//!   C program ◀─ its callbacks:      handler    a request arrives from uncork
//!                                    call       the access handler is asked
//!                                    progress   what follows: the body, the response, a resumption
//!                                    stream     content readers
//!                                    switch     a 101, and then another protocol: upgrade_events, upgrade_sockets
//!                                    notify     connections and requests that end
//!                                    held_back  the same, once the program uses the connection no more
//!   state:                           shared (a daemon) ◀─ connection ─▶ response
//! ```
//!
//! No file imports, over other files or directly, a file that imports it.
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
mod address;
mod auth;
mod authorization;
mod basic;
mod bridge;
mod call;
mod connection;
mod create;
mod daemon;
mod digest;
mod digest_check;
mod digest_info;
mod digest_queue;
mod external;
mod handler;
mod held_back;
mod info;
mod info_cell;
mod listen;
mod logger;
mod logging;
mod lookup;
mod memory;
mod notify;
mod options;
mod own_loop;
mod post;
mod progress;
mod request;
mod response;
mod response_fields;
mod response_headers;
mod returned;
mod send;
mod shared;
mod stream;
mod strings;
mod suspend;
mod switch;
mod tls;
mod types;
mod upgrade_events;
mod upgrade_sockets;
mod values;
mod variadic;
