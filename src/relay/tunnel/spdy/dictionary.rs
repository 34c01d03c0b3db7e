//! The preset dictionary of both sides' zlib streams (SPDY/3 §2.6.10.1): field names, each after its length as in a
//! header block, then other frequent words.

#[rustfmt::skip]
const NAMES: &[&str] = &[
    "options", "head", "post", "put", "delete", "trace", "accept", "accept-charset", "accept-encoding",
    "accept-language", "accept-ranges", "age", "allow", "authorization", "cache-control", "connection", "content-base",
    "content-encoding", "content-language", "content-length", "content-location", "content-md5", "content-range",
    "content-type", "date", "etag", "expect", "expires", "from", "host", "if-match", "if-modified-since",
    "if-none-match", "if-range", "if-unmodified-since", "last-modified", "location", "max-forwards", "pragma",
    "proxy-authenticate", "proxy-authorization", "range", "referer", "retry-after", "server", "te", "trailer",
    "transfer-encoding", "upgrade", "user-agent", "vary", "via", "warning", "www-authenticate", "method", "get",
    "status", "200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin",
];

#[rustfmt::skip]
const WORDS: &[&str] = &[
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505",
    "203 Non-Authoritative Information", "204 No Content", "301 Moved Permanently", "400 Bad Request",
    "401 Unauthorized", "403 Forbidden", "404 Not Found", "500 Internal Server Error", "501 Not Implemented",
    "503 Service Unavailable", "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 ",
    "Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT", "chunked,text/html,image/png,image/jpg,image/gif,",
    "application/xml,application/xhtml+xml,text/plain,text/javascript,", "publicprivatemax-age=", "gzip,deflate,sdch",
    "charset=utf-8charset=iso-8859-1,utf-,*,enq=0.",
];

/// The dictionary's bytes.
pub(super) static DICTIONARY: [u8; 1423] = build();

const fn build() -> [u8; 1423] {
    let (mut bytes, mut at, mut i) = ([0; 1423], 0, 0);
    while i < NAMES.len() {
        bytes[at + 3] = NAMES[i].len() as u8;
        at = put(&mut bytes, at + 4, NAMES[i]);
        i += 1;
    }
    i = 0;
    while i < WORDS.len() {
        at = put(&mut bytes, at, WORDS[i]);
        i += 1;
    }
    assert!(at == bytes.len());
    bytes
}

const fn put(bytes: &mut [u8; 1423], at: usize, text: &str) -> usize {
    let mut i = 0;
    while i < text.len() {
        bytes[at + i] = text.as_bytes()[i];
        i += 1;
    }
    at + i
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    #[test]
    fn it_is_the_one_of_spdy_3() {
        let sum = Sha256::digest(DICTIONARY).iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(sum, "51d27341373f923f3cd88e1eb7162aeaa3723d7585ff2399201dc06498407f02");
        let (a, b) = DICTIONARY.iter().fold((1u32, 0u32), |(a, b), byte| {
            let a = (a + u32::from(*byte)) % 65521;
            (a, (a + b) % 65521)
        });
        assert_eq!(b << 16 | a, super::super::headers::ADLER, "Adler-32");
    }
}
