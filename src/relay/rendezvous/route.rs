//! The routes of paths, relative to the base path.

/// The resource that a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    Ping,
    Streams,
    Stream(&'a str),
    Error(&'a str),
    Status(&'a str),
}

impl<'a> Route<'a> {
    /// Returns the route of a path relative to the base path. One slash at its end is ignored.
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
        for (path, route) in [
            ("/ping", Some(Route::Ping)),
            ("/ping/", Some(Route::Ping)),
            ("/ping//", None),
            ("/stream", Some(Route::Streams)),
            ("/stream/", Some(Route::Streams)),
            ("/stream//", None),
            ("/streams", None),
            ("/stream/a_b-C9", Some(Route::Stream("a_b-C9"))),
            ("/stream/a/", Some(Route::Stream("a"))),
            ("/stream/a.b", None),
            ("/stream/%61", None),
            ("/stream/a/error", Some(Route::Error("a"))),
            ("/stream/a/error/", Some(Route::Error("a"))),
            ("/stream/a/status", Some(Route::Status("a"))),
            ("/stream/a/status/x", None),
            ("/stream/a/other", None),
            ("/stream//error", None),
            ("/", None),
            ("", None),
        ] {
            assert_eq!(Route::of(path), route, "{path}");
        }
    }
}
