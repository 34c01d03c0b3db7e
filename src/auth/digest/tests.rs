//! A client in memory against [`Digest`]: every parameter right, wrong, missing and twice.

use std::time::{Duration, Instant};

use super::{
    algorithm::{Protection, ResponseInput},
    target::is_same_target,
    *,
};
use crate::auth::params::{Params, after_scheme};

const REALM: &str = "http-auth@example.org";
const PASSWORD: &str = "Circle of Life";

/// A client that knows user and password.
#[derive(Clone)]
struct Client {
    name: &'static str,
    password: &'static str,
    method: &'static str,
    uri: &'static str,
    algorithm: Algorithm,
    nonce: String,
    count: u32,
}

/// The request's target, as the server has it.
const TARGET: DigestTarget<'_> = DigestTarget { method: b"GET", target: b"/dir/index.html?a=b", address: None };

impl Client {
    /// Takes the nonce from the challenge for this algorithm.
    fn new(challenges: &[Vec<u8>], algorithm: Algorithm) -> Self {
        let wanted = format!("algorithm={},", algorithm.name());
        let of = |challenge: &&Vec<u8>| String::from_utf8_lossy(challenge).contains(&wanted);
        let challenge = challenges.iter().find(of).expect("a challenge for it");
        let list = after_scheme(challenge, "Digest").unwrap();
        let (_, nonce) = Params::new(list).map(Result::unwrap).find(|(name, _)| *name == b"nonce").unwrap();
        let nonce = String::from_utf8(nonce.raw().to_vec()).unwrap();
        let (method, uri) = ("GET", "/dir/index.html?a=b");
        Self { name: "Mufasa", password: PASSWORD, method, uri, algorithm, nonce, count: 1 }
    }

    fn response(&self, qop: bool) -> String {
        let nc = format!("{:08x}", self.count);
        let protection = Protection { nc: nc.as_bytes(), cnonce: b"c\\\"n", qop: b"auth" };
        let input = ResponseInput {
            method: self.method.as_bytes(),
            uri: self.uri.as_bytes(),
            nonce: self.nonce.as_bytes(),
            protection: qop.then_some(protection),
        };
        self.algorithm.response(&self.algorithm.user_digest(self.name, REALM, self.password), &input).hex()
    }

    /// The parameters of RFC 7616, each with its value as it stands in the field.
    fn params(&self) -> Vec<(&'static str, String)> {
        let quoted = |text: &str| format!("\"{text}\"");
        vec![
            ("username", quoted(self.name)),
            ("realm", quoted(REALM)),
            ("uri", quoted(self.uri)),
            ("algorithm", self.algorithm.name().to_owned()),
            ("nonce", quoted(&self.nonce)),
            ("nc", format!("{:08x}", self.count)),
            ("cnonce", quoted("c\\\"n")),
            ("qop", "auth".to_owned()),
            ("response", quoted(&self.response(true))),
            ("opaque", quoted("o")),
        ]
    }

    fn field(&self) -> String {
        join(&self.params())
    }

    /// The field of RFC 2069.
    fn old_field(&self) -> String {
        let mut params = self.params();
        params.retain(|(name, _)| !["nc", "cnonce", "qop", "response"].contains(name));
        params.push(("response", self.response(false)));
        join(&params)
    }
}

fn join(params: &[(&str, String)]) -> String {
    let params: Vec<String> = params.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("Digest {}", params.join(", "))
}

#[expect(clippy::disallowed_methods, reason = "the time does not matter")]
fn now() -> Instant {
    Instant::now()
}

fn verify(digest: &Digest, field: &str, at: Instant) -> Result<(), DigestError> {
    let account = Account::with_password("Mufasa", PASSWORD);
    digest.verify(&DigestCredentials::parse(field.as_bytes())?, &TARGET, &account, at)
}

fn server() -> Digest {
    Digest::new(REALM).unwrap().algorithms(Algorithm::ALL)
}

#[test]
fn every_algorithm_is_accepted_by_password_and_by_digest() {
    let (digest, at) = (server(), now());
    for algorithm in Algorithm::ALL {
        let client = Client::new(&digest.challenges(&TARGET, false, at), algorithm);
        assert_eq!(verify(&digest, &client.field(), at), Ok(()), "{algorithm:?}");
        let account = Account::with_digest("Mufasa", algorithm.user_digest("Mufasa", REALM, PASSWORD));
        let field = Client { count: 2, ..client }.field();
        let credentials = DigestCredentials::parse(field.as_bytes()).unwrap();
        assert_eq!(digest.verify(&credentials, &TARGET, &account, at), Ok(()), "{algorithm:?}");
        // Digests of another algorithm, and of no algorithm.
        for wrong in [Algorithm::Md5, Algorithm::Sha256, Algorithm::Sha512_256].into_iter().filter(|a| *a != algorithm)
        {
            let account = Account::with_digest("Mufasa", wrong.user_digest("Mufasa", REALM, PASSWORD));
            assert_eq!(digest.verify(&credentials, &TARGET, &account, at), Err(DigestError::ResponseWrong));
        }
        let account = Account::with_digest("Mufasa", HashValue::from_bytes(b"").unwrap());
        assert_eq!(digest.verify(&credentials, &TARGET, &account, at), Err(DigestError::ResponseWrong));
    }
}

#[test]
fn a_challenge_has_what_rfc_7616_wants() {
    // Without their nonces.
    let text = |digest: &Digest, stale| -> Vec<String> {
        let challenges = digest.challenges(&TARGET, stale, now()).into_iter();
        let texts = challenges.map(|challenge| String::from_utf8(challenge).unwrap());
        let without_nonce = |text: String| {
            let (before, after) = text.split_once("nonce=\"").unwrap();
            format!("{before}N{}", after.split_once('"').unwrap().1)
        };
        texts.map(without_nonce).collect()
    };
    let digest = Digest::new("a \"b\"").unwrap();
    assert_eq!(
        text(&digest, false),
        [
            r#"Digest realm="a \"b\"", qop="auth", algorithm=SHA-256, N, charset=UTF-8"#,
            r#"Digest realm="a \"b\"", qop="auth", algorithm=MD5, N, charset=UTF-8"#,
        ]
    );
    let digest = Digest::new("r").unwrap().algorithms([Algorithm::Md5]).opaque("o").domain("/a /b").userhash(true);
    assert_eq!(
        text(&digest.clone().utf8(false), true),
        [r#"Digest realm="r", qop="auth", algorithm=MD5, N, opaque="o", domain="/a /b", stale=true, userhash=true"#]
    );
    assert_eq!(
        text(&digest.qops(Qops::None), false),
        [r#"Digest realm="r", algorithm=MD5, N, opaque="o", domain="/a /b""#]
    );
}

#[test]
fn a_parameter_that_is_wrong_is_named() {
    let (digest, at) = (server(), now());
    for algorithm in Algorithm::ALL {
        let client = Client::new(&digest.challenges(&TARGET, false, at), algorithm);
        #[rustfmt::skip]
        let rows = [
            ("username",  Some("\"Scar\""),            DigestError::WrongUser),
            ("username",  None,                        DigestError::Malformed),
            ("realm",     Some("\"other\""),           DigestError::WrongRealm),
            ("realm",     None,                        DigestError::Malformed),
            ("uri",       Some("\"/dir/index.html\""), DigestError::WrongUri),
            ("uri",       Some("\"\""),                DigestError::WrongUri),
            ("uri",       None,                        DigestError::Malformed),
            ("algorithm", Some("SHA-256-sess"),        DigestError::WrongAlgorithm),
            ("algorithm", Some("x"),                   DigestError::WrongAlgorithm),
            ("nonce",     Some("\"00\""),              DigestError::NonceWrong),
            ("nonce",     None,                        DigestError::Malformed),
            ("nc",        Some("00000002"),            DigestError::ResponseWrong),
            ("nc",        Some("00000000"),            DigestError::Malformed),
            ("nc",        Some("x"),                   DigestError::Malformed),
            ("nc",        Some("000003e9"),            DigestError::NonceStale), // 1001
            ("nc",        None,                        DigestError::Malformed),
            ("cnonce",    Some("\"other\""),           DigestError::ResponseWrong),
            ("cnonce",    None,                        DigestError::Malformed),
            ("qop",       Some("auth-int"),            DigestError::WrongQop),
            ("qop",       Some("x"),                   DigestError::WrongQop),
            ("qop",       None,                        DigestError::WrongQop),
            ("response",  Some("\"00\""),              DigestError::Malformed),
            ("response",  Some("x"),                   DigestError::Malformed),
            ("response",  None,                        DigestError::Malformed),
        ];
        for (name, value, expected) in rows {
            let mut params = client.params();
            params.retain(|param| param.0 != name);
            params.extend(value.map(|value| (name, value.to_owned())));
            assert_eq!(verify(&digest, &join(&params), at), Err(expected), "{algorithm:?}: {name}={value:?}");
        }
        for param in client.params() {
            let twice = [client.params(), vec![param]].concat();
            assert_eq!(verify(&digest, &join(&twice), at), Err(DigestError::Malformed));
        }
        let mut response = client.params();
        let last = response.iter_mut().find(|param| param.0 == "response").unwrap();
        last.1 = if last.1.starts_with("\"0") { last.1.replacen('0', "1", 1) } else { format!("\"0{}", &last.1[2..]) };
        assert_eq!(verify(&digest, &join(&response), at), Err(DigestError::ResponseWrong));
        // None of these has used the nonce up.
        assert_eq!(verify(&digest, &client.field(), at), Ok(()), "{algorithm:?}");
    }
}

#[test]
fn what_was_not_offered_is_not_accepted() {
    let at = now();
    let digest = Digest::new(REALM).unwrap().algorithms([Algorithm::Sha256]);
    let nonce = Client::new(&digest.challenges(&TARGET, false, at), Algorithm::Sha256).nonce;
    let client = |algorithm| {
        let (name, password, method, uri) = ("Mufasa", PASSWORD, "GET", "/dir/index.html?a=b");
        Client { name, password, method, uri, algorithm, nonce: nonce.clone(), count: 1 }
    };
    assert_eq!(verify(&digest, &client(Algorithm::Md5).field(), at), Err(DigestError::WrongAlgorithm));
    let old = client(Algorithm::Sha256).old_field();
    assert_eq!(verify(&digest, &old, at), Err(DigestError::WrongQop));
    assert_eq!(
        verify(&digest.clone().qops(Qops::None), &client(Algorithm::Sha256).field(), at),
        Err(DigestError::WrongQop)
    );
    assert_eq!(verify(&digest, &client(Algorithm::Sha256).field(), at), Ok(()));
}

#[test]
fn a_wrong_password_user_or_method_is_not_accepted() {
    let (digest, at) = (server(), now());
    let client = Client::new(&digest.challenges(&TARGET, false, at), Algorithm::Md5);
    let rows = [
        (Client { password: "circle of life", ..client.clone() }, DigestError::ResponseWrong),
        (Client { name: "mufasa", ..client.clone() }, DigestError::WrongUser),
        (Client { method: "PUT", ..client.clone() }, DigestError::ResponseWrong),
    ];
    for (client, expected) in rows {
        assert_eq!(verify(&digest, &client.field(), at), Err(expected));
    }
}

#[test]
fn a_use_is_accepted_once_and_a_nonce_for_a_time() {
    let (digest, at) = (server().max_nonce_count(3).nonce_timeout(Duration::from_secs(10)), now());
    let client = Client::new(&digest.challenges(&TARGET, false, at), Algorithm::Sha256);
    let count = |count| Client { count, ..client.clone() }.field();
    for (n, expected) in [
        (2, Ok(())),
        (2, Err(DigestError::NonceStale)),
        (1, Ok(())),
        (1, Err(DigestError::NonceStale)),
        (4, Err(DigestError::NonceStale)),
    ] {
        assert_eq!(verify(&digest, &count(n), at), expected, "{n}");
    }
    assert_eq!(verify(&digest, &count(3), at + Duration::from_millis(10_001)), Err(DigestError::NonceStale));
    assert_eq!(verify(&digest, &count(3), at + Duration::from_secs(10)), Ok(()));
    // A wrong password is not reported for a nonce that is stale: the client must try again anyway.
    assert!(DigestError::NonceStale.is_stale() && !DigestError::ResponseWrong.is_stale());
}

#[test]
fn a_nonce_is_good_for_one_request_of_rfc_2069() {
    let (digest, at) = (server().qops(Qops::AuthOrNone), now());
    let client = Client::new(&digest.challenges(&TARGET, false, at), Algorithm::Md5);
    assert_eq!(verify(&digest, &client.old_field(), at), Ok(()));
    assert_eq!(verify(&digest, &client.old_field(), at), Err(DigestError::NonceStale));
    assert_eq!(verify(&digest, &client.field(), at), Err(DigestError::NonceStale), "nor for one with a count");
    let client = Client::new(&digest.challenges(&TARGET, false, at), Algorithm::Md5);
    assert_eq!(verify(&digest, &client.field(), at), Ok(()));
    assert_eq!(verify(&digest, &client.old_field(), at), Err(DigestError::NonceStale));
}

#[test]
fn a_user_can_be_named_by_a_hash() {
    // The example of RFC 7616 §3.9.2, by erratum 4897.
    let name = "J\u{e4}s\u{f8}n Doe";
    let hash = Algorithm::Sha512_256.user_hash(name, "api@example.org").hex();
    assert_eq!(hash, "793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b");
    let protection =
        Protection { nc: b"00000001", cnonce: b"NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v", qop: b"auth" };
    let nonce = b"5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK";
    let input = ResponseInput { method: b"GET", uri: b"/doe.json", nonce, protection: Some(protection) };
    let digest = Algorithm::Sha512_256.user_digest(name, "api@example.org", "Secret, or not?");
    let response = Algorithm::Sha512_256.response(&digest, &input).hex();
    assert_eq!(response, "3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5");

    let (digest, at) = (server(), now());
    for (hash, expected) in [
        (Algorithm::Sha256.user_hash("Mufasa", REALM).hex(), Ok(())),
        (Algorithm::Sha256.user_hash("Mufasa", REALM).hex().to_uppercase(), Ok(())),
        (Algorithm::Sha256.user_hash("Scar", REALM).hex(), Err(DigestError::WrongUser)),
        (Algorithm::Md5.user_hash("Mufasa", REALM).hex(), Err(DigestError::WrongUser)),
        ("Mufasa".to_owned(), Err(DigestError::Malformed)),
    ] {
        let mut params = Client::new(&digest.challenges(&TARGET, false, at), Algorithm::Sha256).params();
        params[0].1 = format!("\"{hash}\"");
        params.push(("userhash", "true".to_owned()));
        assert_eq!(verify(&digest, &join(&params), at), expected, "{hash}");
    }
    let mut params = Client::new(&digest.challenges(&TARGET, false, at), Algorithm::Sha256).params();
    params[0] = ("username*", "UTF-8''%4Dufasa".to_owned());
    assert_eq!(verify(&digest, &join(&params), at), Ok(()));
}

#[test]
fn the_uri_is_the_target_in_any_form() {
    #[rustfmt::skip]
    const ROWS: &[(&str, &str, bool)] = &[
        ("/a?b",                "/a?b",                true),
        ("/a?b",                "http://h/a?b",        true),
        ("HTTPS://other/a?b",   "/a?b",                true),
        ("http://h",            "/",                   true),
        ("http://h?q",          "?q",                  false),
        ("*",                   "*",                   true),
        ("h:443",               "h:443",               true),
        ("/a",                  "/a?b",                false),
        ("/a?b",                "/a",                  false),
        ("/%61",                "/a",                  false),
        ("",                    "/",                   false),
        ("*",                   "/",                   false),
        ("http:",               "/",                   false),
    ];
    for (uri, target, expected) in ROWS {
        assert_eq!(is_same_target(uri.as_bytes(), target.as_bytes()), *expected, "{uri} for {target}");
    }
}

#[test]
fn secrets_are_not_printed() {
    let account = Account::with_password("a\"b", "secret");
    assert_eq!(format!("{account} {account:?}"), "a\"b Account(\"a\\\"b\")");
    let (digest, at) = (server(), now());
    let field = Client::new(&digest.challenges(&TARGET, false, at), Algorithm::Md5).field();
    let shown = format!("{digest:?} {:?}", DigestCredentials::parse(field.as_bytes()));
    assert!(!shown.contains("key") && !shown.contains("response"), "{shown}");
}
