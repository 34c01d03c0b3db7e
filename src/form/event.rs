//! What a parser finds.

use std::ops::Range;

use super::field::Field;

/// A part of a form, in the order in which it was sent. Each field has one [`Field`](Self::Field), any number of
/// [`Data`](Self::Data), and one [`FieldEnd`](Self::FieldEnd).
#[derive(Debug)]
pub enum Event<'a> {
    /// A field begins.
    Field(Field),
    /// The next bytes of its value, decoded, never empty. How a value is divided depends on the pieces of the body.
    Data(&'a [u8]),
    /// The field ends.
    FieldEnd,
}

/// What a parser has found, before it is lent to the caller.
#[derive(Debug)]
pub(super) enum Step<'i> {
    Field(Field),
    /// Bytes of the input.
    Data(&'i [u8]),
    /// Bytes that ended an earlier piece, and are equal to these of the delimiter.
    Earlier(Range<usize>),
    /// The decoded bytes that the parser holds.
    Decoded,
    FieldEnd,
    /// No event. There may be input left.
    Nothing,
}
