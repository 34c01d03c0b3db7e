//! TLS, by rustls: the one file that names it.
