//! The interface, tested by C programs and by the header of the original.

mod header;
mod programs;
mod support;
