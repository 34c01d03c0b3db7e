//! Against uncork's own server.
