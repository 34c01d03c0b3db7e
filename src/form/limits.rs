//! The limits of a form.

/// The limits of a form. The bytes of values are not limited here, because the parser does not hold them: see
/// [`Limits::body`](crate::Limits::body).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormLimits {
    /// Number of fields. Default: 1000. Beyond it: [`FormError::TooManyFields`](super::FormError::TooManyFields). A
    /// program that collects the fields needs memory for each of them, even if they are empty.
    pub fields: usize,
    /// Bytes of the decoded name of a field or, in a multipart form, of all lines of a part's head. Default: 8 KiB.
    /// Beyond it: [`FormError::HeadTooLarge`](super::FormError::HeadTooLarge). This is what the parser holds; names and
    /// filenames are shorter.
    pub head: usize,
}

impl Default for FormLimits {
    /// Returns 1000 fields and 8 KiB.
    fn default() -> Self {
        Self { fields: 1000, head: 8 * 1024 }
    }
}
