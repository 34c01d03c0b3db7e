//! A certificate to try HTTPS with at home.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{CertificateParams, KeyPair};

/// What it proves to be: this machine, to itself.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// How long it is good for.
const LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

/// The files of a certificate and its key in `dir`: those that are there, or, if there are none or they have had their
/// time, new ones. Nobody believes them who is not told to (`curl --cacert DIR/cert.pem`).
pub(crate) fn self_made(dir: &Path) -> Result<(PathBuf, PathBuf), String> {
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    if !(key.is_file() && is_good(&cert)) {
        make(dir, &cert, &key).map_err(|error| format!("no certificate can be made in {}: {error}", dir.display()))?;
    }
    Ok((cert, key))
}

fn is_good(cert: &Path) -> bool {
    let made = fs::metadata(cert).and_then(|meta| meta.modified());
    made.is_ok_and(|made| made + LIFE > now() + Duration::from_secs(24 * 3600))
}

#[expect(clippy::disallowed_methods, reason = "a program of its own, no part of a loop")]
fn now() -> SystemTime {
    SystemTime::now()
}

fn make(dir: &Path, cert: &Path, key: &Path) -> io::Result<()> {
    let now = now();
    let pair = KeyPair::generate().map_err(io::Error::other)?;
    let mut params = CertificateParams::new(NAMES.map(String::from)).map_err(io::Error::other)?;
    // A clock of somebody else's may be a little behind.
    params.not_before = (now - Duration::from_secs(3600)).into();
    params.not_after = (now + LIFE).into();
    let made = params.self_signed(&pair).map_err(io::Error::other)?;
    fs::create_dir_all(dir)?;
    // The key first, and for nobody else's eyes: who finds a certificate finds its key.
    match fs::remove_file(key) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(key)?;
    file.write_all(pair.serialize_pem().as_bytes())?;
    fs::write(cert, made.pem())
}
