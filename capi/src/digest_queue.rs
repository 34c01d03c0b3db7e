//! Responses that ask for digest credentials.

use std::{
    ffi::{c_char, c_int, c_uint},
    ptr::null,
};

use uncork::auth::{Digest, DigestTarget};

use crate::{
    connection::MHD_Connection,
    digest::{algorithms, of_older, qop, qops},
    digest_check::now,
    request::queue,
    response::MHD_Response,
    response_headers::set_challenge,
    strings::bytes_of,
    types::{NO, Result},
};

const UNAUTHORIZED: c_uint = 401;

/// Returns the challenge, or the reason why there is none.
fn challenge(
    connection: &MHD_Connection,
    realm: &[u8],
    is_stale: bool,
    (mqop, malgo3): (c_uint, c_uint),
    with: impl FnOnce(Digest) -> Digest,
) -> std::result::Result<Vec<u8>, &'static str> {
    let nonces = connection.shared.auth.nonces().ok_or("there are no random bytes for its key")?;
    // One: clients that do not know it would not try another one, and all know the first.
    let algorithm = algorithms(malgo3).next().ok_or("expected an algorithm without -sess")?;
    let qops = qops(mqop).ok_or("expected a qop without auth-int")?;
    let digest = with(Digest::with_nonces(realm, nonces).algorithms([algorithm]).qops(qops));
    let state = connection.state();
    let challenges = state.with_target(|method, target| {
        let (method, target) = (method.as_bytes(), target.as_bytes());
        let target = DigestTarget { method, target, address: connection.peer.ip() };
        digest.challenges(&target, is_stale, now())
    });
    challenges.unwrap_or_default().pop().ok_or("no request waits for a response")
}

export! {
    /// Queues a response as a 401 that asks for digest credentials.
    fn MHD_queue_auth_required_response3(
        connection: *const MHD_Connection, realm: *const c_char, opaque: *const c_char, domain: *const c_char,
        response: *const MHD_Response, signal_stale: c_int, mqop: c_uint, malgo3: c_uint, userhash_support: c_int,
        prefer_utf8: c_int,
    ) -> Result, or NO; {
        // SAFETY: By the contract of the interface they are NULL, or a connection, a string and a response.
        let arguments = unsafe { (MHD_Connection::of_c(connection), bytes_of(realm), MHD_Response::of_c(response)) };
        let (Some(connection), Some(realm), Some(response)) = arguments else { return NO };
        // SAFETY: By the contract of the interface they are NULL or strings.
        let (opaque, domain) = unsafe { (bytes_of(opaque), bytes_of(domain)) };
        let challenge = challenge(connection, realm, signal_stale != NO, (mqop, malgo3), |digest| {
            let digest = digest.userhash(userhash_support != NO).utf8(prefer_utf8 != NO);
            let digest = opaque.into_iter().fold(digest, Digest::opaque);
            domain.into_iter().fold(digest, Digest::domain)
        });
        let added = challenge.and_then(|challenge| match set_challenge(response, &challenge) {
            NO => Err("invalid realm, opaque or domain: expected no control bytes"),
            _ => Ok(()),
        });
        match added {
            Ok(()) => queue(connection, UNAUTHORIZED, response),
            Err(reason) => {
                connection.log(&format!("cannot ask for digest credentials: {reason}"));
                NO
            }
        }
    }
}

export! {
    /// Like `MHD_queue_auth_required_response3`, with `auth`, and an algorithm.
    fn MHD_queue_auth_fail_response2(
        connection: *const MHD_Connection, realm: *const c_char, opaque: *const c_char, response: *const MHD_Response,
        signal_stale: c_int, algo: c_int,
    ) -> Result, or NO; {
        let Some(malgo3) = of_older(algo) else { return NO };
        // SAFETY: By the contract of the interface they are NULL, or a connection, strings and a response.
        unsafe {
            MHD_queue_auth_required_response3(
                connection, realm, opaque, null(), response, signal_stale, qop::AUTH, malgo3, NO, NO,
            )
        }
    }
}

export! {
    /// Like `MHD_queue_auth_fail_response2`, with MD5.
    fn MHD_queue_auth_fail_response(
        connection: *const MHD_Connection, realm: *const c_char, opaque: *const c_char, response: *const MHD_Response,
        signal_stale: c_int,
    ) -> Result, or NO; {
        // SAFETY: By the contract of the interface they are NULL, or a connection, strings and a response.
        unsafe { MHD_queue_auth_fail_response2(connection, realm, opaque, response, signal_stale, 1) }
    }
}
