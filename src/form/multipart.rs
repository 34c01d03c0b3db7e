//! `multipart/form-data` (RFC 7578), with the `multipart/mixed` in it that old browsers send for several files.
//!
//! ```text
//!   preamble --b ␍␊ head ␍␊ ␍␊ content ␍␊--b ␍␊ head … ␍␊--b-- epilogue
//!   Skip         Tail Head      Data         Tail Head        Tail Over
//!                     │
//!                     └ multipart/mixed; boundary=i ␍␊ ␍␊ --i ␍␊ head … ␍␊--i-- ␍␊--b
//!                                                   Skip      Tail Head …   Skip
//! ```

use super::{
    delimiter::{Delimiter, Found},
    error::FormError,
    event::Step,
    field::Field,
    limits::FormLimits,
    parameters::Parameters,
    part_head::PartHead,
};

/// The parser of one multipart form.
pub(super) struct Multipart {
    limits: FormLimits,
    outer: Delimiter,
    nested: Option<Nested>,
    state: State,
    /// Fields so far.
    fields: usize,
}

/// The files of one field.
struct Nested {
    delimiter: Delimiter,
    field: Field,
    /// Its last delimiter was there: the next one is the form's.
    is_over: bool,
}

enum State {
    /// Bytes before the first delimiter, or behind the last one of a nested multipart.
    Skip,
    /// Behind a boundary.
    Tail(Tail),
    Head(PartHead),
    Data,
    /// Behind the last delimiter. All that follows is ignored (RFC 2046 §5.1.1).
    Over,
}

enum Tail {
    Start,
    Hyphen,
    Padding,
    Cr,
}

impl Multipart {
    pub(super) fn new(parameters: Parameters<'_>, limits: FormLimits) -> Result<Self, FormError> {
        let mut outer = Delimiter::of_content_type(parameters)?;
        // The first delimiter may begin the body.
        outer.begin_after_line();
        Ok(Self { limits, outer, nested: None, state: State::Skip, fields: 0 })
    }

    /// Returns the delimiter that ends the current part.
    fn delimiter(&mut self) -> &mut Delimiter {
        match &mut self.nested {
            Some(nested) if !nested.is_over => &mut nested.delimiter,
            _ => &mut self.outer,
        }
    }

    /// Returns content that ended an earlier piece: see [`Step::Earlier`].
    pub(super) fn earlier(&mut self) -> &[u8] {
        self.delimiter().bytes()
    }

    /// Takes bytes from the front of `input`, which is not empty, for at most one event.
    pub(super) fn step<'i>(&mut self, input: &mut &'i [u8]) -> Result<Step<'i>, FormError> {
        match &mut self.state {
            State::Skip | State::Data => Ok(self.content(input)),
            State::Tail(_) => self.tail(input).map(|()| Step::Nothing),
            State::Head(head) => {
                let is_complete = head.take(input, self.limits.head)?;
                if is_complete { self.head_is_complete() } else { Ok(Step::Nothing) }
            }
            State::Over => {
                *input = &[];
                Ok(Step::Nothing)
            }
        }
    }

    fn content<'i>(&mut self, input: &mut &'i [u8]) -> Step<'i> {
        let is_data = matches!(self.state, State::Data);
        let found = self.delimiter().find(input);
        let n = match found {
            Found::Content(n) | Found::Earlier(_, n) | Found::End(n) => n,
            Found::Nothing => input.len(),
        };
        let (taken, rest) = input.split_at(n);
        *input = rest;
        match found {
            Found::End(_) => {
                if self.nested.as_ref().is_some_and(|nested| nested.is_over) {
                    self.nested = None;
                }
                self.state = State::Tail(Tail::Start);
                if is_data { Step::FieldEnd } else { Step::Nothing }
            }
            Found::Content(_) if is_data => Step::Data(taken),
            Found::Earlier(range, _) if is_data => Step::Earlier(range),
            _ => Step::Nothing,
        }
    }

    fn tail(&mut self, input: &mut &[u8]) -> Result<(), FormError> {
        while let (State::Tail(tail), [b, rest @ ..]) = (&mut self.state, *input) {
            *input = rest;
            *tail = match (&tail, b) {
                (Tail::Start, b'-') => Tail::Hyphen,
                (Tail::Hyphen, b'-') => {
                    self.closed();
                    break;
                }
                // Transport padding.
                (Tail::Start | Tail::Padding, b' ' | b'\t') => Tail::Padding,
                (Tail::Start | Tail::Padding, b'\r') => Tail::Cr,
                (Tail::Cr, b'\n') => {
                    self.state = State::Head(PartHead::default());
                    break;
                }
                _ => return Err(FormError::Delimiter),
            };
        }
        Ok(())
    }

    /// Notes that a last delimiter was there.
    fn closed(&mut self) {
        self.state = match &mut self.nested {
            Some(nested) => {
                nested.is_over = true;
                self.outer.begin();
                State::Skip
            }
            None => State::Over,
        };
    }

    fn head_is_complete<'i>(&mut self) -> Result<Step<'i>, FormError> {
        let State::Head(head) = std::mem::replace(&mut self.state, State::Data) else { return Ok(Step::Nothing) };
        if let Some(mixed) = head.mixed().filter(|_| self.nested.is_none()) {
            let delimiter = Delimiter::of_content_type(mixed)?;
            // With one boundary for both, it is not clear which multipart a delimiter belongs to.
            if delimiter.bytes() == self.outer.bytes() {
                return Err(FormError::Boundary);
            }
            self.nested = Some(Nested { delimiter, field: head.field(None)?, is_over: false });
            self.state = State::Skip;
            self.delimiter().begin_after_line();
            return Ok(Step::Nothing);
        }
        let field = head.field(self.nested.as_ref().map(|nested| &nested.field))?;
        self.fields += 1;
        if self.fields > self.limits.fields {
            return Err(FormError::TooManyFields);
        }
        // The empty line's CR LF can be the delimiter's: some clients omit the one of an empty value.
        self.delimiter().begin_after_line();
        Ok(Step::Field(field))
    }

    /// Checks that the last delimiter was there.
    pub(super) fn finish(&self) -> Result<(), FormError> {
        if matches!(self.state, State::Over) { Ok(()) } else { Err(FormError::Unfinished) }
    }
}
