//! One test body, every mode, every transport: a property must hold for all combinations that make sense.
//!
//! A test is a function of a [`World`](world::World); `matrix!` makes up to twelve tests of it. Nothing here sleeps:
//! tests wait for reports from the server (`world::report_channel`), with a timeout that only a hang reaches.

#[path = "../../support/http2/mod.rs"]
#[allow(dead_code, reason = "the tests of HTTP/2 use the rest")]
mod http2;
#[path = "../../support/wire.rs"]
mod wire;
#[macro_use]
#[path = "../../support/world.rs"]
mod world;

mod alpn;
mod bridged;
mod departures;
mod dial;
mod dial_fails;
mod dialing;
mod forms;
mod http;
mod limits;
mod opened;
mod pipe_ends;
mod pipes;
mod proxied;
mod response_bodies;
mod select;
mod stopping;
mod tickets;
mod upgrade_data;
mod upgrade_end;
mod upgrade_life;
mod upgrade_wake;
mod upgrading;
mod uploads;
mod within;
