//! What a path names, below the base path.

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place<'a> {
    Ping,
    Streams,
    Stream(&'a str),
    Error(&'a str),
    Status(&'a str),
}

impl<'a> Place<'a> {
    /// Of a path below the base. One slash at its end is ignored.
    pub(super) fn of(path: &'a str) -> Option<Self> {
        let path = path.strip_suffix('/').unwrap_or(path);
        let rest = match path {
            "/ping" => return Some(Self::Ping),
            "/stream" => return Some(Self::Streams),
            _ => path.strip_prefix("/stream/")?,
        };
        let (id, what) = rest.split_once('/').map_or((rest, None), |(id, what)| (id, Some(what)));
        if id.is_empty() || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
            return None;
        }
        match what {
            None => Some(Self::Stream(id)),
            Some("error") => Some(Self::Error(id)),
            Some("status") => Some(Self::Status(id)),
            Some(_) => None,
        }
    }

    pub(super) fn allow(self) -> &'static str {
        match self {
            Self::Ping | Self::Status(_) => "GET, HEAD",
            Self::Streams | Self::Error(_) => "POST",
            Self::Stream(_) => "GET, PUT",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (path, place) in [
            ("/ping", Some(Place::Ping)),
            ("/ping/", Some(Place::Ping)),
            ("/ping//", None),
            ("/stream", Some(Place::Streams)),
            ("/stream/", Some(Place::Streams)),
            ("/stream//", None),
            ("/streams", None),
            ("/stream/a_b-C9", Some(Place::Stream("a_b-C9"))),
            ("/stream/a/", Some(Place::Stream("a"))),
            ("/stream/a.b", None),
            ("/stream/%61", None),
            ("/stream/a/error", Some(Place::Error("a"))),
            ("/stream/a/error/", Some(Place::Error("a"))),
            ("/stream/a/status", Some(Place::Status("a"))),
            ("/stream/a/status/x", None),
            ("/stream/a/other", None),
            ("/stream//error", None),
            ("/", None),
            ("", None),
        ] {
            assert_eq!(Place::of(path), place, "{path}");
        }
    }
}
