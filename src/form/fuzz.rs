//! Fuzz target: a form gives the same events and errors however its body is divided.

use std::io::Read;

use super::{error::FormError, event::Event, field::Field, limits::FormLimits, parser::FormParser, reader::FormReader};

/// Fields with their values, and if they have ended; then the error.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Outcome {
    pub(super) fields: Vec<(Field, Vec<u8>, bool)>,
    pub(super) error: Option<FormError>,
}

impl Outcome {
    fn push(&mut self, event: Event<'_>) {
        match (event, self.fields.last_mut()) {
            (Event::Field(field), last) => {
                assert!(last.is_none_or(|(.., has_ended)| *has_ended), "a field begins in another");
                self.fields.push((field, Vec::new(), false));
            }
            (Event::Data(data), Some((_, value, false))) => {
                assert!(!data.is_empty());
                value.extend_from_slice(data);
            }
            (Event::FieldEnd, Some((.., has_ended @ false))) => *has_ended = true,
            (event, last) => panic!("{event:?} after {last:?}"),
        }
    }

    /// Parses these pieces.
    pub(super) fn of<'a>(content_type: &[u8], limits: FormLimits, pieces: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut outcome = Self::default();
        outcome.error = outcome.parse(content_type, limits, pieces).err();
        outcome
    }

    fn parse<'a>(
        &mut self,
        content_type: &[u8],
        limits: FormLimits,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(), FormError> {
        let mut parser = FormParser::new(content_type, limits)?;
        let result = (|| {
            for mut piece in pieces {
                while let Some(event) = parser.next(&mut piece)? {
                    self.push(event);
                }
                assert!(piece.is_empty());
            }
            while let Some(event) = parser.finish()? {
                self.push(event);
            }
            Ok(())
        })();
        if let Err(error) = result {
            assert_eq!(parser.next(&mut &b"x"[..]).err(), Some(error), "an error stays");
            assert_eq!(parser.finish().err(), Some(error), "an error stays");
        }
        result
    }

    /// Reads the form with a buffer of this size.
    fn read(content_type: &[u8], limits: FormLimits, body: &[u8], size: usize) -> Self {
        let mut outcome = Self::default();
        let result = FormParser::new(content_type, limits).map_err(Into::into).and_then(|parser| {
            let mut form = FormReader::new(parser, body);
            let mut buffer = vec![0; size];
            while let Some(field) = form.next_field()? {
                outcome.fields.push((field, Vec::new(), false));
                loop {
                    let n = form.read(&mut buffer)?;
                    let Some((_, value, has_ended)) = outcome.fields.last_mut() else { break };
                    value.extend_from_slice(&buffer[..n]);
                    if n == 0 {
                        *has_ended = true;
                        break;
                    }
                }
            }
            Ok(())
        });
        outcome.error = result.err().and_then(|error| FormError::of_io(&error));
        outcome
    }
}

/// The first byte selects the kind, the rest is the body. An own Content-Type is the body's first line.
#[doc(hidden)]
pub fn form(data: &[u8]) {
    let [choice, body @ ..] = data else { return };
    let limits = FormLimits { fields: 8, head: 120 };
    let (content_type, body) = match choice % 3 {
        0 => (&b"application/x-www-form-urlencoded"[..], body),
        1 => (&b"multipart/form-data; boundary=b"[..], body),
        _ => body.split_at(body.iter().position(|&b| b == b'\n').unwrap_or(body.len())),
    };
    let whole = Outcome::of(content_type, limits, [body]);
    for size in [1, 2, 3, 7] {
        assert_eq!(whole, Outcome::of(content_type, limits, body.chunks(size)), "in pieces of {size}");
    }
    let (first, second) = body.split_at(usize::from(*choice).min(body.len()));
    assert_eq!(whole, Outcome::of(content_type, limits, [first, &[], second]), "in two pieces");
    for size in [1, 5, 4096] {
        assert_eq!(whole, Outcome::read(content_type, limits, body, size), "read");
    }
    assert!(whole.fields.len() <= limits.fields);
    assert!(whole.fields.iter().all(|(field, ..)| field.name_bytes().len() <= limits.head));
    assert!(whole.fields.iter().map(|(_, value, _)| value.len()).sum::<usize>() <= body.len());
    if choice % 3 == 0 && whole.error.is_none() {
        let same = form_urlencoded::parse(body)
            .eq(whole.fields.iter().map(|(field, value, _)| (field.name().into(), String::from_utf8_lossy(value))));
        assert!(same, "{whole:?}");
    }
}
