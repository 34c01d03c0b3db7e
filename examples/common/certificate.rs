//! A self-signed certificate for tests with HTTPS.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Component, Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{CertificateParams, KeyPair};

/// Names in the certificate: this machine, for itself.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Validity of the certificate.
const VALIDITY: Duration = Duration::from_secs(30 * 24 * 3600);

/// Returns the directory for certificates and keys: `named`, or one of the user's own. That is
/// `$XDG_STATE_HOME/uncork`, which is `~/.local/state/uncork` unless it is set.
///
/// # Errors
/// If none was named and the user has no home.
pub(crate) fn directory(named: Option<&Path>) -> Result<PathBuf, String> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = || variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")));
    let own = || state().map(|state| state.join("uncork"));
    named
        .map(Path::to_owned)
        .or_else(own)
        .ok_or_else(|| "cannot find the home directory: use --tls-self-made=DIR".into())
}

/// Returns the paths of the certificate and its key in such a directory.
pub(crate) fn files(dir: &Path) -> (PathBuf, PathBuf) {
    (dir.join("cert.pem"), dir.join("key.pem"))
}

/// Returns `true` if `dir`, which need not exist yet, is `root` or below it.
///
/// # Errors
/// If `root` does not exist.
#[allow(dead_code, reason = "only examples that serve a directory need it")]
pub(crate) fn is_below(dir: &Path, root: &Path) -> io::Result<bool> {
    let (dir, root) = (std::path::absolute(dir)?, fs::canonicalize(root)?);
    for known in dir.ancestors() {
        if let Ok(real) = fs::canonicalize(known) {
            // It is unknown where `..` leads from a directory that does not exist.
            let unknown = dir.components().skip(known.components().count()).any(|part| part == Component::ParentDir);
            return Ok(unknown || real.starts_with(&root));
        }
    }
    Ok(true)
}

/// A certificate and its key.
pub(crate) struct SelfMade {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    /// They were made just now.
    #[allow(dead_code, reason = "only the relay reads it again")]
    pub(crate) is_new: bool,
}

/// Returns the files of the certificate and its key in `dir`. If there are none, or they expire within a day, it makes
/// new ones. Clients reject the certificate unless they are configured to trust it (`curl --cacert DIR/cert.pem`); the
/// caller says so ([`must_trust`]).
pub(crate) fn self_made(dir: &Path) -> Result<SelfMade, String> {
    let (cert, key) = files(dir);
    let is_new = !(key.is_file() && is_good(&cert));
    if is_new {
        make(dir, &cert, &key).map_err(|error| format!("cannot make a certificate in {}: {error}", dir.display()))?;
    }
    Ok(SelfMade { cert, key, is_new })
}

/// Returns what users need to know of such a certificate.
pub(crate) fn must_trust(cert: &Path) -> String {
    format!("clients must trust this certificate: {}", cert.display())
}

fn is_good(cert: &Path) -> bool {
    let made = fs::metadata(cert).and_then(|meta| meta.modified());
    made.is_ok_and(|made| made + VALIDITY > now() + Duration::from_secs(24 * 3600))
}

#[expect(clippy::disallowed_methods, reason = "a program, outside of any loop")]
fn now() -> SystemTime {
    SystemTime::now()
}

fn make(dir: &Path, cert: &Path, key: &Path) -> io::Result<()> {
    let now = now();
    let pair = KeyPair::generate().map_err(io::Error::other)?;
    let mut params = CertificateParams::new(NAMES.map(String::from)).map_err(io::Error::other)?;
    // The clock of a client may be slow.
    params.not_before = (now - Duration::from_secs(3600)).into();
    params.not_after = (now + VALIDITY).into();
    let made = params.self_signed(&pair).map_err(io::Error::other)?;
    // File servers do not serve directories that only the owner may enter.
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    // The key first, and readable only by its owner: a certificate without its key must not exist.
    match fs::remove_file(key) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(key)?;
    file.write_all(pair.serialize_pem().as_bytes())?;
    fs::write(cert, made.pem())
}
