//! The interface, tested by C programs and by the header of the original.

mod calls;
mod conformance;
mod debian;
mod examples;
mod form_upload;
mod header;
mod install;
mod programs;
mod support;
mod tls;
mod tls_proxy;
