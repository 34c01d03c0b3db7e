//! Tests of certificates and keys: selection, client certificates, and invalid files.

use super::*;

/// A directory that is removed after the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("uncork-tls-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).expect("a file");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_certificate_is_chosen_by_name() {
    let mut builder = Tls::builder();
    for name in ["first.example", "*.second.example", "third.example"] {
        let (cert, key) = certificate(name);
        builder = builder.pem_bytes(cert.as_bytes(), key.as_bytes()).expect("a certificate");
    }
    let tls = builder.build().expect("a configuration");
    let config = client_config(&TLS13, None);
    for name in ["first.example", "www.second.example", "third.example"] {
        let (mut client, mut server) = pair_named(&tls, &config, name);
        handshake(&mut client, &mut server).expect("the certificate of that name");
        assert_eq!(server.tls.server_name(), Some(name));
    }
    for name in ["a.b.second.example", "fourth.example", "127.0.0.1"] {
        let (mut client, mut server) = pair_named(&tls, &config, name);
        let error = handshake(&mut client, &mut server).expect_err("no certificate for that name");
        assert!(error.contains("NotValidForName"), "the server sends the first one, and the client reports: {error}");
    }
}

#[test]
fn certificates_are_replaced_while_running() {
    let (tls, config) = (tls_for("old.example"), client_config(&TLS13, None));
    let (mut client, mut old) = pair_named(&tls, &config, "old.example");
    tls.clone().replace(&tls_for("new.example"));
    handshake(&mut client, &mut old).expect("an earlier handshake continues");
    let (mut client, mut server) = pair_named(&tls, &config, "old.example");
    handshake(&mut client, &mut server).expect_err("a new handshake gets the new certificate");
    let (mut client, mut server) = pair_named(&tls, &config, "new.example");
    handshake(&mut client, &mut server).expect("the new one");
    server.write(&[b"x"]);
    client.receive().expect("a ticket");

    let dir = Scratch::new("replace");
    let (cert, key) = certificate("new.example");
    let (cert, key) = (dir.file("cert.pem", &cert), dir.file("key.pem", &key));
    tls.replace_pem(&cert, dir.path("missing.pem")).expect_err("a missing key");
    tls.replace_pem(&cert, &key).expect("a renewed certificate");
    let (mut client, mut server) = pair_named(&tls, &config, "new.example");
    handshake(&mut client, &mut server).expect("the renewed one");
    assert_eq!(client.rustls.handshake_kind(), Some(HandshakeKind::Resumed), "sessions outlive a renewal");
}

#[test]
fn clients_present_certificates() {
    let (cert, key) = certificate("localhost");
    let tls = |required| {
        let builder = Tls::builder().pem_bytes(cert.as_bytes(), key.as_bytes()).expect("a certificate");
        let builder = builder.client_certificates_bytes(ca().pem.as_bytes(), required).expect("a CA");
        builder.build().expect("a configuration")
    };
    let (good, bad) = (certificate("me"), signed_by(&authority("another authority"), &["me".to_owned()]));
    for version in BOTH {
        for (required, own, accepted) in [
            (true, Some(&good), true),
            (true, None, false),
            (true, Some(&bad), false),
            (false, Some(&good), true),
            (false, None, true),
            (false, Some(&bad), false),
        ] {
            let (mut client, mut server) = pair(&tls(required), &client_config(version, own));
            let result = handshake(&mut client, &mut server);
            assert_eq!(result.is_ok(), accepted, "required {required}, own {}: {result:?}", own.is_some());
            if accepted {
                let presented = server.tls.peer_certificates().map(<[_]>::to_vec);
                assert_eq!(presented, own.map(|(cert, _)| vec![der(cert)]));
            }
        }
    }
}

#[test]
fn a_given_configuration_is_used_unchanged() {
    let (cert, key) = certificate("localhost");
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![der(&cert)], key)
        .expect("a configuration");
    // Records much smaller than ours.
    config.max_fragment_size = Some(100);
    let (mut client, mut server) = pair(&Arc::new(config).into(), &client_config(&TLS13, None));
    handshake(&mut client, &mut server).expect("a handshake");
    assert_eq!((server.tls.alpn_protocol(), server.tls.server_name()), (None, Some("localhost")));
    let all = pattern(200_000);
    let mut at = 0;
    for _ in 0..100 {
        at += server.write(&[&all[at..at + 1], &all[at + 1..]]);
        client.receive().expect("small records");
        if at == all.len() {
            break;
        }
    }
    assert!(client.got == all);
}

#[test]
fn errors_name_the_file_and_the_remedy() {
    let dir = Scratch::new("errors");
    let ((cert, key), (other_cert, other_key)) = (certificate("one"), certificate("two"));
    let (good_cert, good_key) = (dir.file("cert.pem", &cert), dir.file("key.pem", &key));
    let both = dir.file("both.pem", &(key.clone() + &cert));
    Tls::pem(&good_cert, &good_key).expect("a pair");
    Tls::pem(&both, &both).expect("a pair in one file");

    let text = |cert: &Path, key: &Path| Tls::pem(cert, key).expect_err("an error").to_string();
    let check = |cert: &Path, key: &Path, file: &str, what: &str| {
        let text = text(cert, key);
        assert!(text.contains(file) && text.contains(what), "{text}");
    };
    check(&dir.path("none.pem"), &good_key, "none.pem", "no such file");
    check(&good_cert, &dir.path("none.pem"), "none.pem", "no such file");
    check(&dir.0, &good_key, "uncork-tls-errors", "cannot read");
    check(&good_key, &good_cert, "key.pem", "no certificate in it; give a PEM file");
    check(&good_cert, &good_cert, "cert.pem", "no private key in it; give a PEM file");
    check(&dir.file("empty.pem", ""), &good_key, "empty.pem", "no certificate in it");
    check(&good_cert, &dir.file("theirs.pem", &other_key), "theirs.pem", "does not belong to the certificate in");
    check(&dir.file("order.pem", &(other_cert + &cert)), &good_key, "order.pem", "certificate first");
    let truncated: String = cert.lines().take(4).map(|line| format!("{line}\n")).collect();
    check(&dir.file("truncated.pem", &truncated), &good_key, "truncated.pem", "malformed: ");
    let junk = |kind: &str| format!("-----BEGIN {kind}-----\nAAAA\n-----END {kind}-----\n");
    check(&dir.file("junk.pem", &junk("CERTIFICATE")), &good_key, "junk.pem", "malformed: ");
    check(&good_cert, &dir.file("junk-key.pem", &junk("PRIVATE KEY")), "junk-key.pem", "malformed: ");
    check(
        &good_cert,
        &dir.file("base64.pem", &junk("PRIVATE KEY").replace("AAAA", "%%%%")),
        "base64.pem",
        "malformed: ",
    );
    check(&good_cert, &dir.file("locked.pem", &junk("ENCRYPTED PRIVATE KEY")), "locked.pem", "is encrypted");
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n\
               -----END RSA PRIVATE KEY-----\n";
    check(&good_cert, &dir.file("old.pem", old), "old.pem", "is encrypted");

    let builder = || Tls::builder().pem(&good_cert, &good_key).expect("a pair");
    let error = builder().client_certificates(&good_key, true).expect_err("no CA");
    assert!(matches!(&error, TlsError::NoCertificate { file } if file.ends_with("key.pem")), "{error}");
    assert!(matches!(Tls::builder().build(), Err(TlsError::Unusable(_))));
    let error = Tls::pem_bytes(b"", key.as_bytes()).expect_err("no certificate");
    assert!(error.to_string().contains("the given certificate"), "{error}");
    assert!(std::error::Error::source(&Tls::pem(dir.path("x"), &good_key).expect_err("no file")).is_some());
}

#[test]
fn keys_come_in_three_forms() {
    // Made by `openssl ecparam -genkey` and `openssl genrsa -traditional`; the certificates by `openssl req -x509`.
    for form in ["sec1", "pkcs1"] {
        let (cert, key) = match form {
            "sec1" => (include_str!("../testdata/ec.crt"), include_str!("../testdata/ec.key")),
            _ => (include_str!("../testdata/rsa.crt"), include_str!("../testdata/rsa.key")),
        };
        let tls = Tls::pem_bytes(cert.as_bytes(), key.as_bytes());
        assert!(tls.is_ok(), "{form}: {:?}", tls.err());
    }
}
