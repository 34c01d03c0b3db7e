//! The parser of both kinds of forms.

use std::fmt;

use super::{
    error::FormError,
    event::{Event, Step},
    limits::FormLimits,
    multipart::Multipart,
    parameters,
    urlencoded::Urlencoded,
};
use crate::api::Request;

/// Parses a form whose body arrives in pieces of any size. It holds no content, except up to 4 KiB of decoded bytes.
///
/// ```
/// use uncork::form::{Event, FormError, FormLimits, FormParser};
///
/// let mut parser = FormParser::new(b"application/x-www-form-urlencoded", FormLimits::default())?;
/// let mut text = String::new();
/// let mut handle = |event: Event<'_>| match event {
///     Event::Field(field) => text += &format!("{}: ", field.name()),
///     Event::Data(data) => text += &String::from_utf8_lossy(data),
///     Event::FieldEnd => text += "\n",
/// };
/// for mut piece in [&b"user=an"[..], b"n&city=S%C3%A3o+Pau", b"lo"] {
///     while let Some(event) = parser.next(&mut piece)? {
///         handle(event);
///     }
/// }
/// while let Some(event) = parser.finish()? {
///     handle(event);
/// }
/// assert_eq!(text, "user: ann\ncity: S\u{e3}o Paulo\n");
/// # Ok::<(), FormError>(())
/// ```
pub struct FormParser {
    kind: Kind,
    /// The error that ended it.
    error: Option<FormError>,
}

enum Kind {
    Urlencoded(Urlencoded),
    Multipart(Box<Multipart>),
}

impl FormParser {
    /// Creates a parser for a body with this Content-Type.
    ///
    /// # Errors
    /// [`FormError::NotAForm`] if it is neither `application/x-www-form-urlencoded` nor `multipart/form-data`.
    /// [`FormError::Boundary`] if it is the latter, and its parameters are malformed or do not have one valid boundary.
    pub fn new(content_type: &[u8], limits: FormLimits) -> Result<Self, FormError> {
        let (media_type, parameters) = parameters::split(content_type);
        let kind = if media_type.eq_ignore_ascii_case(b"application/x-www-form-urlencoded") {
            Kind::Urlencoded(Urlencoded::new(limits))
        } else if media_type.eq_ignore_ascii_case(b"multipart/form-data") {
            Kind::Multipart(Box::new(Multipart::new(parameters, limits)?))
        } else {
            return Err(FormError::NotAForm);
        };
        Ok(Self { kind, error: None })
    }

    /// Creates a parser for the body of a request.
    ///
    /// # Errors
    /// Like those of [`new`](Self::new). A request without a Content-Type is [`FormError::NotAForm`].
    pub fn of_request(req: &Request<'_>, limits: FormLimits) -> Result<Self, FormError> {
        Self::new(req.header("content-type").unwrap_or_default(), limits)
    }

    /// Returns `true` if the form is `multipart/form-data`: only then it can have files.
    pub fn is_multipart(&self) -> bool {
        matches!(self.kind, Kind::Multipart(_))
    }

    /// Returns the next event, and takes its bytes from the front of `piece`. Returns `None` when all of the piece has
    /// been taken: call it again with the next one, or [`finish`](Self::finish).
    ///
    /// # Errors
    /// If the form is malformed or exceeds a limit. The same error is returned again by each later call.
    pub fn next<'s, 'i: 's>(&'s mut self, piece: &mut &'i [u8]) -> Result<Option<Event<'s>>, FormError> {
        self.steps(|kind| match kind {
            Kind::Urlencoded(form) => form.step(piece).map(|step| (step, piece.is_empty())),
            Kind::Multipart(_) if piece.is_empty() => Ok((Step::Nothing, true)),
            Kind::Multipart(form) => form.step(piece).map(|step| (step, piece.is_empty())),
        })
    }

    /// Returns the next event after the last piece; `None` at the end of the form. Call it until then.
    ///
    /// # Errors
    /// [`FormError::Unfinished`] if the last delimiter of a multipart form is missing, or an error of
    /// [`next`](Self::next).
    pub fn finish(&mut self) -> Result<Option<Event<'_>>, FormError> {
        self.steps(|kind| match kind {
            Kind::Urlencoded(form) => form.finish().map(|step| (step, true)),
            Kind::Multipart(form) => form.finish().map(|()| (Step::Nothing, true)),
        })
    }

    /// Calls `step` until it finds an event or reports, by `true`, that there is no more input.
    fn steps<'s, 'i: 's>(
        &'s mut self,
        mut step: impl FnMut(&mut Kind) -> Result<(Step<'i>, bool), FormError>,
    ) -> Result<Option<Event<'s>>, FormError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let found = loop {
            match step(&mut self.kind) {
                Ok((Step::Nothing, false)) => {}
                Ok((found, _)) => break found,
                Err(error) => {
                    self.error = Some(error);
                    return Err(error);
                }
            }
        };
        Ok(match (found, &mut self.kind) {
            (Step::Field(field), _) => Some(Event::Field(field)),
            (Step::FieldEnd, _) => Some(Event::FieldEnd),
            (Step::Data(data), _) => Some(Event::Data(data)),
            (Step::Earlier(range), Kind::Multipart(form)) => Some(Event::Data(&form.earlier()[range])),
            (Step::Decoded, Kind::Urlencoded(form)) => Some(Event::Data(form.decoded())),
            // The other kind has no such step.
            (Step::Nothing | Step::Earlier(_) | Step::Decoded, _) => None,
        })
    }
}

impl fmt::Debug for FormParser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Urlencoded(_) => "FormParser(urlencoded)",
            Kind::Multipart(_) => "FormParser(multipart)",
        })
    }
}
