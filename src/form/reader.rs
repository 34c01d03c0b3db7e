//! A form from a reader that blocks.

use std::{
    fmt,
    io::{self, Read},
};

use super::{event::Event, field::Field, parser::FormParser};

/// Bytes that are read at once.
const BUFFER: usize = 16 * 1024;

/// Reads a form from a [`Read`], field by field: for a thread that may block, as one with a
/// [`PipeReader`](crate::PipeReader). It is itself the reader of the value of the current field, so a file of any size
/// needs no more than 16 KiB.
///
/// ```
/// use std::io::{self, Read};
/// use uncork::form::{FormLimits, FormParser, FormReader};
///
/// fn count(body: impl Read, content_type: &[u8]) -> io::Result<u64> {
///     let parser = FormParser::new(content_type, FormLimits::default())?;
///     let mut form = FormReader::new(parser, body);
///     let mut bytes = 0;
///     while let Some(field) = form.next_field()? {
///         if field.filename().is_some() {
///             bytes += io::copy(&mut form, &mut io::sink())?;
///         }
///     }
///     Ok(bytes)
/// }
///
/// let body = "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x\"\r\n\r\nhello\r\n--b--\r\n";
/// assert_eq!(count(body.as_bytes(), b"multipart/form-data; boundary=b")?, 5);
/// # Ok::<(), io::Error>(())
/// ```
pub struct FormReader<R> {
    parser: FormParser,
    body: R,
    buffer: Box<[u8]>,
    /// The bytes of `buffer` that the parser has not taken.
    start: usize,
    end: usize,
    /// The body has ended.
    is_over: bool,
    /// A field has begun and has not ended.
    is_in_field: bool,
    /// Bytes of the value for which the caller had no room.
    rest: Vec<u8>,
}

/// An event without its data, which has been copied.
enum Next {
    Field(Field),
    /// This many bytes.
    Data(usize),
    FieldEnd,
    FormEnd,
}

impl<R: Read> FormReader<R> {
    /// Creates a reader of the form in `body`.
    pub fn new(parser: FormParser, body: R) -> Self {
        let buffer = vec![0; BUFFER].into();
        Self { parser, body, buffer, start: 0, end: 0, is_over: false, is_in_field: false, rest: Vec::new() }
    }

    /// Returns the next field; `None` at the end of the form. What is left of the current field's value is skipped.
    ///
    /// # Errors
    /// Those of `body`, and those of the form: see [`FormError::of_io`](super::FormError::of_io).
    pub fn next_field(&mut self) -> io::Result<Option<Field>> {
        self.rest.clear();
        let mut skipped = [0; 4096];
        loop {
            match self.event(&mut skipped)? {
                Next::Field(field) => return Ok(Some(field)),
                Next::Data(_) => self.rest.clear(),
                Next::FieldEnd => {}
                Next::FormEnd => return Ok(None),
            }
        }
    }

    /// Returns the next event. Data is copied into `out`, as far as there is room.
    fn event(&mut self, out: &mut [u8]) -> io::Result<Next> {
        loop {
            // Data of this much input has room in `out`, with few exceptions.
            let end = self.end.min(self.start + out.len());
            let mut input = &self.buffer[self.start..end];
            let before = input.len();
            let event = if self.is_over { self.parser.finish() } else { self.parser.next(&mut input) };
            // The event is borrowed from the parser, and not from `start`.
            self.start += before - input.len();
            match event? {
                Some(Event::Field(field)) => {
                    self.is_in_field = true;
                    return Ok(Next::Field(field));
                }
                Some(Event::Data(data)) => {
                    let n = data.len().min(out.len());
                    out[..n].copy_from_slice(&data[..n]);
                    self.rest.extend_from_slice(&data[n..]);
                    return Ok(Next::Data(n));
                }
                Some(Event::FieldEnd) => {
                    self.is_in_field = false;
                    return Ok(Next::FieldEnd);
                }
                None if self.is_over => return Ok(Next::FormEnd),
                None if self.start == self.end => self.fill()?,
                None => {}
            }
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        (self.start, self.end) = (0, 0);
        self.end = loop {
            match self.body.read(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.is_over = self.end == 0;
        Ok(())
    }
}

/// The value of the current field, up to its end.
impl<R: Read> Read for FormReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if !self.rest.is_empty() {
            let n = self.rest.len().min(buf.len());
            buf[..n].copy_from_slice(&self.rest[..n]);
            self.rest.drain(..n);
            return Ok(n);
        }
        if buf.is_empty() || !self.is_in_field {
            return Ok(0);
        }
        match self.event(buf)? {
            Next::Data(n) => Ok(n),
            Next::Field(_) | Next::FieldEnd | Next::FormEnd => Ok(0),
        }
    }
}

impl<R> fmt::Debug for FormReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FormReader").field("parser", &self.parser).finish_non_exhaustive()
    }
}
