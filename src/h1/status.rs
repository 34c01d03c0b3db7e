//! Status codes and their reason phrases (RFC 9110 §15, and the IANA registry for the later ones).

macro_rules! statuses {
    ($($code:literal $reason:literal)*) => {
        /// Returns the registered reason phrase of a status, or `""`. RFC 9112 §4 requires clients to ignore it.
        pub const fn reason(status: u16) -> &'static str {
            match status {
                $($code => $reason,)*
                _ => "",
            }
        }

        /// Returns the whole status line with its line end, for a registered status.
        pub(crate) const fn status_line(status: u16) -> Option<&'static [u8]> {
            match status {
                $($code => Some(concat!("HTTP/1.1 ", $code, " ", $reason, "\r\n").as_bytes()),)*
                _ => None,
            }
        }

        #[cfg(test)]
        const KNOWN: &[u16] = &[$($code,)*];
    };
}

statuses! {
    100 "Continue" 101 "Switching Protocols" 102 "Processing" 103 "Early Hints"
    200 "OK" 201 "Created" 202 "Accepted" 203 "Non-Authoritative Information" 204 "No Content" 205 "Reset Content"
    206 "Partial Content" 207 "Multi-Status" 208 "Already Reported" 226 "IM Used"
    300 "Multiple Choices" 301 "Moved Permanently" 302 "Found" 303 "See Other" 304 "Not Modified" 305 "Use Proxy"
    307 "Temporary Redirect" 308 "Permanent Redirect"
    400 "Bad Request" 401 "Unauthorized" 402 "Payment Required" 403 "Forbidden" 404 "Not Found"
    405 "Method Not Allowed" 406 "Not Acceptable" 407 "Proxy Authentication Required" 408 "Request Timeout"
    409 "Conflict" 410 "Gone" 411 "Length Required" 412 "Precondition Failed" 413 "Content Too Large"
    414 "URI Too Long" 415 "Unsupported Media Type" 416 "Range Not Satisfiable" 417 "Expectation Failed"
    421 "Misdirected Request" 422 "Unprocessable Content" 423 "Locked" 424 "Failed Dependency" 425 "Too Early"
    426 "Upgrade Required" 428 "Precondition Required" 429 "Too Many Requests"
    431 "Request Header Fields Too Large" 451 "Unavailable For Legal Reasons"
    500 "Internal Server Error" 501 "Not Implemented" 502 "Bad Gateway" 503 "Service Unavailable"
    504 "Gateway Timeout" 505 "HTTP Version Not Supported" 506 "Variant Also Negotiates"
    507 "Insufficient Storage" 508 "Loop Detected" 511 "Network Authentication Required"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_reasons_agree() {
        for &status in KNOWN {
            let want = format!("HTTP/1.1 {status} {}\r\n", reason(status));
            assert_eq!(status_line(status), Some(want.as_bytes()));
        }
        assert_eq!((reason(299), status_line(299)), ("", None));
    }
}
