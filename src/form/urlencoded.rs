//! `application/x-www-form-urlencoded` (WHATWG URL §5.1): "+" is a space, "%41" is "A", and an invalid "%" is itself.

use super::{error::FormError, event::Step, field::Field, limits::FormLimits};

/// Bytes of decoded data in one event, at most.
const DECODED: usize = 4096;

/// The parser of one urlencoded form.
pub(super) struct Urlencoded {
    limits: FormLimits,
    state: State,
    name: Vec<u8>,
    escape: Escape,
    /// Decoded bytes of a value.
    decoded: Vec<u8>,
    /// An event has passed `decoded` on.
    is_passed_on: bool,
    /// Fields so far.
    fields: usize,
}

enum State {
    /// Between two fields.
    Start,
    Name,
    Value,
    /// The field has been reported, and its end has not.
    End,
}

/// The begin of an escape: "%", or "%" and this digit.
#[derive(Clone, Copy)]
enum Escape {
    None,
    Percent,
    Digit(u8),
}

impl Escape {
    /// Takes one byte, and writes what is decoded.
    fn push(&mut self, b: u8, out: &mut Vec<u8>) {
        match (*self, hex(b)) {
            (Self::Percent, Some(_)) => return *self = Self::Digit(b),
            (Self::Digit(first), Some(low)) => {
                *self = Self::None;
                return out.push(hex(first).unwrap_or_default() << 4 | low);
            }
            _ => self.flush(out),
        }
        match b {
            b'%' => *self = Self::Percent,
            b'+' => out.push(b' '),
            _ => out.push(b),
        }
    }

    /// Writes an incomplete escape as it is.
    fn flush(&mut self, out: &mut Vec<u8>) {
        match std::mem::replace(self, Self::None) {
            Self::None => {}
            Self::Percent => out.push(b'%'),
            Self::Digit(b) => out.extend_from_slice(&[b'%', b]),
        }
    }
}

fn hex(b: u8) -> Option<u8> {
    char::from(b).to_digit(16).map(|digit| digit as u8) // at most 15
}

impl Urlencoded {
    pub(super) fn new(limits: FormLimits) -> Self {
        let (name, decoded) = (Vec::new(), Vec::new());
        Self { limits, state: State::Start, name, escape: Escape::None, decoded, is_passed_on: false, fields: 0 }
    }

    /// Returns the decoded bytes of a value: see [`Step::Decoded`].
    pub(super) fn decoded(&self) -> &[u8] {
        &self.decoded
    }

    /// Takes bytes from the front of `input` for at most one event.
    pub(super) fn step<'i>(&mut self, input: &mut &[u8]) -> Result<Step<'i>, FormError> {
        self.drop_passed_on();
        if matches!(self.state, State::End) {
            self.state = State::Start;
            return Ok(Step::FieldEnd);
        }
        while let [b, rest @ ..] = *input {
            match (&self.state, b) {
                (State::Start, b'&') => {}
                (State::Start | State::Name, b'=') => {
                    *input = rest;
                    return self.field(State::Value);
                }
                (State::Name, b'&') => {
                    *input = rest;
                    return self.field(State::End);
                }
                (State::Start | State::Name, _) => {
                    self.state = State::Name;
                    self.escape.push(*b, &mut self.name);
                    self.check_name()?;
                }
                (State::Value, b'&') => {
                    *input = rest;
                    return Ok(self.end_of_value());
                }
                (State::Value, _) => self.escape.push(*b, &mut self.decoded),
                (State::End, _) => break,
            }
            *input = rest;
            if self.decoded.len() >= DECODED - 2 {
                break;
            }
        }
        Ok(self.pass_on())
    }

    /// Returns the next event after the end of the input; [`Step::Nothing`] after the last.
    pub(super) fn finish<'i>(&mut self) -> Result<Step<'i>, FormError> {
        self.drop_passed_on();
        match self.state {
            State::Start => Ok(Step::Nothing),
            State::Name => self.field(State::End),
            State::Value => Ok(self.end_of_value()),
            State::End => self.step(&mut &[][..]),
        }
    }

    fn drop_passed_on(&mut self) {
        if std::mem::take(&mut self.is_passed_on) {
            self.decoded.clear();
        }
    }

    fn check_name(&self) -> Result<(), FormError> {
        if self.name.len() > self.limits.head { Err(FormError::HeadTooLarge) } else { Ok(()) }
    }

    fn field<'i>(&mut self, next: State) -> Result<Step<'i>, FormError> {
        self.escape.flush(&mut self.name);
        self.check_name()?;
        self.fields += 1;
        if self.fields > self.limits.fields {
            return Err(FormError::TooManyFields);
        }
        let field = Field::named(&self.name);
        self.name.clear();
        self.state = next;
        Ok(Step::Field(field))
    }

    fn end_of_value<'i>(&mut self) -> Step<'i> {
        self.escape.flush(&mut self.decoded);
        if self.decoded.is_empty() {
            self.state = State::Start;
            return Step::FieldEnd;
        }
        self.state = State::End;
        self.pass_on()
    }

    fn pass_on<'i>(&mut self) -> Step<'i> {
        self.is_passed_on = true;
        if self.decoded.is_empty() { Step::Nothing } else { Step::Decoded }
    }
}
