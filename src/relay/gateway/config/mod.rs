//! The configuration of a gateway, and the file that it is read from.
//!
//! ```text
//!   config.yml ──▶ template ──▶ yaml ──▶ file ──▶ GatewayFile { port, sock, config: GatewayConfig, warnings }
//!                  {{ env … }}  lines    every key                          │
//!                                                                           ▼
//!                                                                    Gateway::new
//! ```

mod closest;
mod duration;
mod fault;
mod file;
mod template;
mod values;
mod yaml;

pub use file::GatewayFile;
pub use values::{GatewayCallbacks, GatewayConfig, GatewayLimits, GatewayPaths, GatewayUpstream, OriginPolicy};
