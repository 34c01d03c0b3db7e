//! The reasons to reject a form, and the status of each.

use std::{fmt, io};

use crate::api::Response;

/// The error of a body that is not a form, or not a valid one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FormError {
    /// The Content-Type is neither `application/x-www-form-urlencoded` nor `multipart/form-data`.
    NotAForm,
    /// The Content-Type of a multipart body has no boundary, several, or one that RFC 2046 §5.1.1 does not allow. Also
    /// for a nested `multipart/mixed`.
    Boundary,
    /// The boundary is followed by other bytes than two hyphens, or spaces and CR LF (RFC 2046 §5.1.1).
    Delimiter,
    /// The head of a part has a line that is not a valid field: a bare CR or LF, a control byte, a folded line, an
    /// invalid name, or a field that it has already.
    PartHead,
    /// The Content-Disposition of a part is missing, malformed, not `form-data`, or without a name (RFC 7578 §4.2).
    Disposition,
    /// More fields than [`FormLimits::fields`](super::FormLimits::fields).
    TooManyFields,
    /// A name or the head of a part is longer than [`FormLimits::head`](super::FormLimits::head).
    HeadTooLarge,
    /// The body ended before the form did.
    Unfinished,
}

impl FormError {
    /// Returns the status of a response to this error: 415 if the body is not a form, 413 beyond a limit, otherwise
    /// 400.
    pub fn status(&self) -> u16 {
        match self {
            Self::NotAForm => 415,
            Self::TooManyFields | Self::HeadTooLarge => 413,
            _ => 400,
        }
    }

    /// Returns the form's own error in an error of a [`FormReader`](super::FormReader); `None` if reading has failed.
    ///
    /// ```
    /// use uncork::form::{FormError, FormLimits, FormParser, FormReader};
    ///
    /// let parser = FormParser::new(b"multipart/form-data; boundary=b", FormLimits::default())?;
    /// let error = FormReader::new(parser, &b"--b\r\n"[..]).next_field().unwrap_err();
    /// assert_eq!(FormError::of_io(&error), Some(FormError::Unfinished));
    /// # Ok::<(), FormError>(())
    /// ```
    pub fn of_io(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().copied()
    }
}

impl fmt::Display for FormError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAForm => "invalid Content-Type: expected multipart/form-data or application/x-www-form-urlencoded",
            Self::Boundary => "invalid boundary in a Content-Type: expected one, of 1 to 70 characters",
            Self::Delimiter => "invalid bytes behind a boundary: expected the end of the line",
            Self::PartHead => "invalid header field in a part of the form",
            Self::Disposition => "invalid Content-Disposition in a part of the form: expected form-data with a name",
            Self::TooManyFields => "too many fields in the form",
            Self::HeadTooLarge => "too many bytes in the name of a field or the head of a part",
            Self::Unfinished => "the form ended before its end",
        })
    }
}

impl std::error::Error for FormError {}

/// An error of the kind [`InvalidData`](io::ErrorKind::InvalidData).
impl From<FormError> for io::Error {
    fn from(error: FormError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// A response of the [status](FormError::status) whose text is the error.
impl From<FormError> for Response {
    fn from(error: FormError) -> Self {
        Self::text(format!("{error}\n")).with_status(error.status())
    }
}
