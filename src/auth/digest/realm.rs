//! One realm: its challenges, and what is accepted.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    account::Account,
    algorithm::{Algorithm, HashValue, ResponseInput},
    credentials::{DigestCredentials, Qop, Username},
    error::DigestError,
    nonce::{Nonces, Opened},
    target::{DigestTarget, is_same_target},
};
use crate::{
    api::{Request, Response},
    auth::params,
};

/// Digest authentication for one realm: makes challenges, and verifies requests against the account of their user.
///
/// ```
/// use uncork::{Request, Response, auth::{Account, Digest}};
///
/// let digest = Digest::new("vault")?;
/// let handler = move |req: &mut Request<'_>| {
///     let account = digest.authenticate(req, |credentials| match credentials.user().as_deref() {
///         Some("alice") => Some(Account::with_password("alice", "open sesame")),
///         _ => None,
///     });
///     match account {
///         Ok(account) => Response::text(format!("hello, {account}\n")),
///         Err(error) => digest.response(req, error),
///     }
/// };
/// # fn check(_: impl uncork::Handler) {}
/// # check(handler);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Digest {
    realm: Box<[u8]>,
    nonces: Arc<Nonces>,
    algorithms: Box<[Algorithm]>,
    qops: Qops,
    nonce_timeout: Duration,
    max_nonce_count: u32,
    userhash: bool,
    utf8: bool,
    opaque: Option<Box<[u8]>>,
    domain: Option<Box<[u8]>>,
}

/// The qualities of protection that a server offers. `auth-int` is not among them: it would need the content before the
/// request is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qops {
    /// `auth` only.
    Auth,
    /// `auth`, and for clients that do not know it none, as in RFC 2069. Without a count each nonce is good for one
    /// request, so such a client sends each request twice.
    AuthOrNone,
    /// None, as in RFC 2069.
    None,
}

/// What has been verified before the user is looked up.
struct Admitted<'a> {
    algorithm: Algorithm,
    input: ResponseInput<'a>,
    response: HashValue,
    nonce: Opened,
    /// `None` as in RFC 2069.
    count: Option<u32>,
}

impl Digest {
    /// Creates it for a realm, with nonces of its own. The realm is text that the client shows to the user, and by
    /// which it finds a stored password; it is part of each user digest. A control byte in it makes
    /// [`response`](Self::response) a 500.
    ///
    /// # Errors
    /// If the system cannot give random bytes.
    pub fn new(realm: impl AsRef<[u8]>) -> std::io::Result<Self> {
        Ok(Self::with_nonces(realm, Arc::new(Nonces::new(Nonces::DEFAULT_SLOTS)?)))
    }

    /// Creates it for a realm, with nonces that others use too.
    pub fn with_nonces(realm: impl AsRef<[u8]>, nonces: Arc<Nonces>) -> Self {
        Self {
            realm: realm.as_ref().into(),
            nonces,
            algorithms: [Algorithm::Sha256, Algorithm::Md5].into(),
            qops: Qops::Auth,
            nonce_timeout: Duration::from_secs(300),
            max_nonce_count: 1000,
            userhash: false,
            utf8: true,
            opaque: None,
            domain: None,
        }
    }

    /// Sets the algorithms that are offered, each by a challenge of its own, in the order of preference (RFC 7616
    /// §3.7). Default: SHA-256, then MD5 for clients that do not know it.
    pub fn algorithms(self, algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        Self { algorithms: algorithms.into_iter().collect(), ..self }
    }

    /// Sets the qualities of protection that are offered. Default: [`Qops::Auth`].
    pub fn qops(self, qops: Qops) -> Self {
        Self { qops, ..self }
    }

    /// Sets how long a nonce is valid, from when it was made. Default: 300 s. Then the client gets a new one without
    /// asking its user. The time bounds for how long an attacker can use a request that was intercepted.
    pub fn nonce_timeout(self, timeout: Duration) -> Self {
        Self { nonce_timeout: timeout, ..self }
    }

    /// Sets how often a nonce can be used. Default: 1000. Then the client gets a new one without asking its user.
    pub fn max_nonce_count(self, count: u32) -> Self {
        Self { max_nonce_count: count, ..self }
    }

    /// Sets whether clients may send a hash in place of the user's name (RFC 7616 §3.4.4). Default: `false`. The
    /// function that looks users up must then know [`Username::Hash`]:
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use uncork::{Request, Response, auth::{Account, Algorithm, Digest, Username}};
    ///
    /// let digest = Digest::new("vault")?.algorithms([Algorithm::Sha256]).userhash(true);
    /// let names = HashMap::from([(Algorithm::Sha256.user_hash("alice", "vault").hex(), "alice")]);
    /// let handler = move |req: &mut Request<'_>| {
    ///     let account = digest.authenticate(req, |credentials| {
    ///         let name = match credentials.username() {
    ///             Username::Hash(hex) => (*names.get(&String::from_utf8_lossy(hex).to_lowercase())?).to_owned(),
    ///             _ => credentials.user()?.into_owned(),
    ///         };
    ///         (name == "alice").then(|| Account::with_password(name, "open sesame"))
    ///     });
    ///     match account {
    ///         Ok(account) => Response::text(format!("hello, {account}\n")),
    ///         Err(error) => digest.response(req, error),
    ///     }
    /// };
    /// # fn check(_: impl uncork::Handler) {}
    /// # check(handler);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn userhash(self, userhash: bool) -> Self {
        Self { userhash, ..self }
    }

    /// Sets whether the challenge says that names and passwords are in UTF-8 (RFC 7616 §4). Default: `true`.
    pub fn utf8(self, utf8: bool) -> Self {
        Self { utf8, ..self }
    }

    /// Sets text that clients send back as it is. Default: none.
    pub fn opaque(self, opaque: impl AsRef<[u8]>) -> Self {
        Self { opaque: Some(opaque.as_ref().into()), ..self }
    }

    /// Sets the space-separated URIs that the same user and password are for. Default: none, which means the whole
    /// server. This is information for the client only.
    pub fn domain(self, domain: impl AsRef<[u8]>) -> Self {
        Self { domain: Some(domain.as_ref().into()), ..self }
    }

    /// Verifies a request. `find` gets its credentials, not verified yet, and returns the account of the user that they
    /// name; `None` if there is none. It is called only if everything else is right, and an unknown user takes about as
    /// long as a wrong password.
    ///
    /// # Errors
    /// If the request is not to be accepted; give the error to [`response`](Self::response).
    pub fn authenticate(
        &self,
        request: &Request<'_>,
        find: impl FnOnce(&DigestCredentials<'_>) -> Option<Account>,
    ) -> Result<Account, DigestError> {
        let credentials = DigestCredentials::of(request.headers())?;
        let admitted = self.admit(&credentials, &request.into(), request.now().mono)?;
        let Some(account) = find(&credentials) else {
            let decoy = Account::with_password([], []);
            let _ = self.is_proven(&admitted, &decoy);
            return Err(DigestError::WrongUser);
        };
        self.prove(&credentials, &admitted, &account)?;
        Ok(account)
    }

    /// Like [`authenticate`](Self::authenticate), but for credentials that are parsed already, and for one account.
    ///
    /// # Errors
    /// If the request is not to be accepted.
    pub fn verify(
        &self,
        credentials: &DigestCredentials<'_>,
        target: &DigestTarget<'_>,
        account: &Account,
        now: Instant,
    ) -> Result<(), DigestError> {
        let algorithm = credentials.algorithm().filter(|algorithm| self.algorithms.contains(algorithm));
        let algorithm = algorithm.ok_or(DigestError::WrongAlgorithm)?;
        if !credentials.is_user(account.name(), &self.realm, algorithm) {
            return Err(match credentials.username() {
                Username::Missing | Username::Invalid => DigestError::Malformed,
                _ => DigestError::WrongUser,
            });
        }
        let admitted = self.admit(credentials, target, now)?;
        self.prove(credentials, &admitted, account)
    }

    /// Verifies everything that needs no account.
    fn admit<'a>(
        &self,
        credentials: &DigestCredentials<'a>,
        target: &DigestTarget<'a>,
        now: Instant,
    ) -> Result<Admitted<'a>, DigestError> {
        if matches!(credentials.username(), Username::Missing | Username::Invalid) {
            return Err(DigestError::Malformed);
        }
        if *credentials.realm().ok_or(DigestError::Malformed)? != *self.realm {
            return Err(DigestError::WrongRealm);
        }
        let algorithm = credentials.algorithm().filter(|algorithm| self.algorithms.contains(algorithm));
        let algorithm = algorithm.ok_or(DigestError::WrongAlgorithm)?;
        let is_offered = match credentials.qop() {
            Qop::Auth => self.qops != Qops::None,
            Qop::None => self.qops != Qops::Auth,
            Qop::AuthInt | Qop::Unknown => false,
        };
        if !is_offered {
            return Err(DigestError::WrongQop);
        }
        let protection = match credentials.qop() {
            Qop::None => None,
            _ => Some(credentials.protection().ok_or(DigestError::Malformed)?),
        };
        let response = credentials.response().filter(|response| response.as_bytes().len() == algorithm.size());
        let response = response.ok_or(DigestError::Malformed)?;
        let (uri, nonce) = credentials.uri().zip(credentials.nonce()).ok_or(DigestError::Malformed)?;
        if !is_same_target(uri, target.target) {
            return Err(DigestError::WrongUri);
        }
        let opened = self.nonces.open(nonce, &self.realm, target, self.nonce_timeout, now)?;
        let count = protection.and_then(|_| credentials.nonce_count());
        if count.is_some_and(|count| count > self.max_nonce_count) {
            return Err(DigestError::NonceStale);
        }
        let input = ResponseInput { method: target.method, uri, nonce, protection };
        Ok(Admitted { algorithm, input, response, nonce: opened, count })
    }

    /// Verifies user and response. Notes the use of the nonce last: a client without the password must not use it up.
    fn prove(
        &self,
        credentials: &DigestCredentials<'_>,
        admitted: &Admitted<'_>,
        account: &Account,
    ) -> Result<(), DigestError> {
        let is_user = credentials.is_user(account.name(), &self.realm, admitted.algorithm);
        if !self.is_proven(admitted, account) {
            return Err(if is_user { DigestError::ResponseWrong } else { DigestError::WrongUser });
        }
        if !is_user {
            return Err(DigestError::WrongUser);
        }
        self.nonces.claim(admitted.nonce, admitted.count)
    }

    /// Returns `true` if the response is the one for this account.
    fn is_proven(&self, admitted: &Admitted<'_>, account: &Account) -> bool {
        let digest = account.digest(&self.realm, admitted.algorithm);
        admitted.algorithm.response(&digest, &admitted.input) == admitted.response
    }

    /// Returns the challenges, each the value of a `WWW-Authenticate` field, with one new nonce. `stale` tells the
    /// client that only its nonce was not accepted.
    pub fn challenges(&self, target: &DigestTarget<'_>, stale: bool, now: Instant) -> Vec<Vec<u8>> {
        let nonce = self.nonces.issue(&self.realm, target, now);
        self.algorithms.iter().map(|algorithm| self.challenge(*algorithm, &nonce, stale)).collect()
    }

    fn challenge(&self, algorithm: Algorithm, nonce: &str, stale: bool) -> Vec<u8> {
        let mut challenge = b"Digest".to_vec();
        params::push_quoted(&mut challenge, "realm", &self.realm);
        // What RFC 2069 does not have is left out for those who asked for it.
        let is_new = self.qops != Qops::None;
        if is_new {
            params::push_quoted(&mut challenge, "qop", b"auth");
        }
        params::push_token(&mut challenge, "algorithm", algorithm.name());
        params::push_quoted(&mut challenge, "nonce", nonce.as_bytes());
        if let Some(opaque) = &self.opaque {
            params::push_quoted(&mut challenge, "opaque", opaque);
        }
        if let Some(domain) = &self.domain {
            params::push_quoted(&mut challenge, "domain", domain);
        }
        if stale {
            params::push_token(&mut challenge, "stale", "true");
        }
        if is_new && self.utf8 {
            params::push_token(&mut challenge, "charset", "UTF-8");
        }
        if is_new && self.userhash {
            params::push_token(&mut challenge, "userhash", "true");
        }
        challenge
    }

    /// Returns a 401 with the challenges and without a body.
    pub fn response(&self, request: &Request<'_>, error: DigestError) -> Response {
        let challenges = self.challenges(&request.into(), error.is_stale(), request.now().mono);
        challenges
            .into_iter()
            .fold(Response::new(401), |response, challenge| response.append("WWW-Authenticate", challenge))
    }
}
