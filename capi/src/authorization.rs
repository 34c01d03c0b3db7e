//! The credentials of a request.

use uncork::auth::DigestError;

use crate::connection::MHD_Connection;

/// Returns a copy of the one Authorization field of the request.
pub(crate) fn authorization(connection: &MHD_Connection) -> Result<Vec<u8>, DigestError> {
    let mut values: Vec<Vec<u8>> = Vec::new();
    connection.state().each_field(|name, value| {
        if name.eq_ignore_ascii_case("authorization") {
            values.push(value.to_vec());
        }
    });
    match values.len() {
        0 => Err(DigestError::NoCredentials),
        1 => Ok(values.swap_remove(0)),
        _ => Err(DigestError::Malformed),
    }
}
