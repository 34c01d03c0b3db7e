//! The interface, tested by C programs and by the header of the original.

mod debian;
mod header;
mod programs;
mod support;
mod tls;
