//! The gateway.
mod config;
pub use config::{
    ConfigFault, GatewayCallbacks, GatewayConfig, GatewayFile, GatewayLimits, GatewayPaths, OriginPolicy,
};
/// x
#[derive(Debug)]
pub struct Gateway;
impl Gateway {
    /// x
    pub fn new(config: GatewayConfig) -> Result<Self, ConfigFault> {
        config.checked()?;
        Ok(Self)
    }
}
