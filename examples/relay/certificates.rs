//! Validity of certificates: warnings at start and on SIGHUP, and a metric for Prometheus.

use std::time::{Duration, SystemTime};

use uncork::Tls;
use yasna::{
    ASN1Error, ASN1ErrorKind, ASN1Result, BERReader,
    tags::{TAG_GENERALIZEDTIME, TAG_UTCTIME},
};

use super::{logs::timestamp, metrics::Page};

/// The tag of a certificate's version, `[0]`.
const VERSION: u8 = 0xa0;

/// Validity of a listener's certificate and its chain, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Validity {
    not_before: i64,
    not_after: i64,
}

impl Validity {
    /// Returns the validity, or `None` if no certificate can be parsed.
    fn of(tls: &Tls) -> Option<Self> {
        // A chain is valid while each of its certificates is.
        tls.certificates().iter().filter_map(|der| Self::read(der).ok()).reduce(|one, other| Self {
            not_before: one.not_before.max(other.not_before),
            not_after: one.not_after.min(other.not_after),
        })
    }

    /// Reads a certificate (RFC 5280, section 4.1).
    fn read(der: &[u8]) -> ASN1Result<Self> {
        let parts = |der: &[u8]| yasna::parse_der(der, |it| it.collect_sequence_of(part));
        let certificate = parts(der)?;
        // The version comes first; only certificates of version 1 omit it.
        let signed = parts(certificate.first().ok_or_else(short)?)?;
        let has_version = signed.first().is_some_and(|part| part.first() == Some(&VERSION));
        // Behind serial number, algorithm and issuer.
        let validity = signed.get(3 + usize::from(has_version)).ok_or_else(short)?;
        yasna::parse_der(validity, |it| {
            it.read_sequence(|it| Ok(Self { not_before: time(it.next())?, not_after: time(it.next())? }))
        })
    }

    fn fault(self, now: SystemTime) -> Option<String> {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        if now > self.not_after {
            return Some(format!("expired at {}", date(self.not_after)));
        }
        (now < self.not_before).then(|| format!("is not valid before {}", date(self.not_before)))
    }
}

fn short() -> ASN1Error {
    ASN1Error::new(ASN1ErrorKind::Eof)
}

/// Reads a part of a sequence, with its tag and length.
fn part(it: BERReader<'_, '_>) -> ASN1Result<Vec<u8>> {
    it.read_der()
}

/// Reads a time, in seconds since 1970.
fn time(it: BERReader<'_, '_>) -> ASN1Result<i64> {
    match it.lookahead_tag()? {
        TAG_UTCTIME => Ok(it.read_utctime()?.datetime().unix_timestamp()),
        TAG_GENERALIZEDTIME => Ok(it.read_generalized_time()?.datetime().unix_timestamp()),
        _ => Err(ASN1Error::new(ASN1ErrorKind::Invalid)),
    }
}

fn date(seconds: i64) -> String {
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    SystemTime::UNIX_EPOCH.checked_add(since).map_or_else(|| seconds.to_string(), timestamp)
}

/// Returns why a listener's certificate is not valid at this time, or `None` if it is valid.
pub(crate) fn fault(tls: &Tls, now: SystemTime) -> Option<String> {
    Validity::of(tls)?.fault(now)
}

/// Writes the expiry time of each listener's certificate, labelled with the listener's URL.
pub(crate) fn write_metrics(page: &mut Page, listeners: &[(String, Tls)]) {
    if listeners.is_empty() {
        return;
    }
    let name = "certificate_expiry_timestamp_seconds";
    page.family(name, "gauge", "Expiry of a listener's certificate or its chain, in seconds since 1970");
    for (url, tls) in listeners {
        if let Some(Validity { not_after, .. }) = Validity::of(tls) {
            page.sample(name, &format!("{{listener={}}}", super::json::line(url)), not_after);
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn the_time_of_a_certificate_is_read() {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        (params.not_before, params.not_after) = (date_time_ymd(2001, 9, 9), date_time_ymd(2033, 5, 18));
        let made = params.self_signed(&key).expect("signed");
        let tls = Tls::pem_bytes(made.pem().as_bytes(), key.serialize_pem().as_bytes()).expect("it fits");
        let at = |seconds| fault(&tls, SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(1_500_000_000), None);
        assert_eq!(at(2_000_000_000).as_deref(), Some("expired at 2033-05-18T00:00:00.000Z"));
        assert_eq!(at(900_000_000).as_deref(), Some("is not valid before 2001-09-09T00:00:00.000Z"));
        let mut page = Page::default();
        write_metrics(&mut page, &[("https://127.0.0.1:1".to_owned(), tls)]);
        let line = "uncork_certificate_expiry_timestamp_seconds{listener=\"https://127.0.0.1:1\"} 1999987200\n";
        assert!(page.0.ends_with(line), "{}", page.0);
    }
}
