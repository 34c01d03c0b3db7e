//! The certificate of nodes that use TLS between them.

use std::sync::OnceLock;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use uncork::{Tls, TlsClient};

/// The certificate of all nodes, which they show as servers and as clients; and a client without it.
pub(crate) fn identity() -> &'static (Tls, TlsClient, TlsClient) {
    static IDENTITY: OnceLock<(Tls, TlsClient, TlsClient)> = OnceLock::new();
    IDENTITY.get_or_init(|| {
        let (ca_key, key) = (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&ca_key).expect("a certificate").pem();
        let params_of_node = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
        let issuer = Issuer::new(params, ca_key);
        let cert = params_of_node.signed_by(&key, &issuer).expect("a certificate").pem();
        let (cert, key) = (cert.into_bytes(), key.serialize_pem().into_bytes());
        let server =
            Tls::builder().pem_bytes(&cert, &key).and_then(|tls| tls.client_certificates_bytes(ca.as_bytes(), true));
        let client = TlsClient::builder().roots_pem(ca.as_bytes()).and_then(|tls| tls.certificate_pem(&cert, &key));
        let server = server.and_then(uncork::TlsBuilder::build).expect("a server's configuration");
        let stranger = TlsClient::roots_pem(ca.as_bytes()).expect("a client's configuration");
        (server, client.and_then(uncork::TlsClientBuilder::build).expect("a client's configuration"), stranger)
    })
}
