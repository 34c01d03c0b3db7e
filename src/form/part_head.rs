//! The head of a part of a multipart form: its lines, and the field that they describe.

use super::{
    error::FormError,
    field::{Field, Text},
    parameters::{self, Parameters},
};
use crate::h1::grammar::{is_field_value, is_token, trim};

/// A head whose lines arrive in pieces.
#[derive(Default)]
pub(super) struct PartHead {
    /// The line that has not ended yet.
    line: Vec<u8>,
    /// Bytes of all lines.
    length: usize,
    disposition: Option<Vec<u8>>,
    content_type: Option<Vec<u8>>,
    transfer_encoding: Option<Vec<u8>>,
}

impl PartHead {
    /// Takes bytes from the front of a piece, up to the empty line. Returns `true` if the head is complete.
    pub(super) fn take(&mut self, input: &mut &[u8], limit: usize) -> Result<bool, FormError> {
        while !input.is_empty() {
            let end = input.iter().position(|&b| b == b'\n').map(|at| at + 1);
            let (bytes, rest) = input.split_at(end.unwrap_or(input.len()));
            self.length += bytes.len();
            if self.length > limit {
                return Err(FormError::HeadTooLarge);
            }
            self.line.extend_from_slice(bytes);
            *input = rest;
            if end.is_some() {
                let line = std::mem::take(&mut self.line);
                match line.strip_suffix(b"\r\n") {
                    None => return Err(FormError::PartHead),
                    Some([]) => return Ok(true),
                    Some(line) => self.line(line)?,
                }
            }
        }
        Ok(false)
    }

    fn line(&mut self, line: &[u8]) -> Result<(), FormError> {
        let colon = line.iter().position(|&b| b == b':').ok_or(FormError::PartHead)?;
        let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
        if !is_token(name) || !is_field_value(value) {
            return Err(FormError::PartHead);
        }
        let place = match name {
            _ if name.eq_ignore_ascii_case(b"content-disposition") => &mut self.disposition,
            _ if name.eq_ignore_ascii_case(b"content-type") => &mut self.content_type,
            _ if name.eq_ignore_ascii_case(b"content-transfer-encoding") => &mut self.transfer_encoding,
            _ => return Ok(()), // others are ignored (RFC 7578 §4.8)
        };
        match place.replace(value.to_vec()) {
            None => Ok(()),
            Some(_) => Err(FormError::PartHead),
        }
    }

    /// Returns the parameters of the Content-Type if it is `multipart/mixed`: several files of one field.
    pub(super) fn mixed(&self) -> Option<Parameters<'_>> {
        let (media_type, parameters) = parameters::split(self.content_type.as_deref()?);
        media_type.eq_ignore_ascii_case(b"multipart/mixed").then_some(parameters)
    }

    /// Returns the field. In a nested multipart, `outer` has its name.
    pub(super) fn field(self, outer: Option<&Field>) -> Result<Field, FormError> {
        let value = match (self.disposition, outer) {
            (Some(value), _) => value,
            (None, Some(_)) => Vec::new(),
            (None, None) => return Err(FormError::Disposition),
        };
        let (kind, mut parameters) = parameters::split(&value);
        if outer.is_none() && !kind.eq_ignore_ascii_case(b"form-data") {
            return Err(FormError::Disposition);
        }
        let (mut name, mut filename) = (None, None);
        while let Some((parameter, value)) = parameters.next().map_err(|_| FormError::Disposition)? {
            let place = match parameter {
                _ if parameter.eq_ignore_ascii_case(b"name") => &mut name,
                _ if parameter.eq_ignore_ascii_case(b"filename") => &mut filename,
                _ => continue,
            };
            if place.replace(value).is_some() {
                return Err(FormError::Disposition);
            }
        }
        let text = |value: Option<Vec<u8>>| value.map(|value| Text::new(&value));
        Ok(Field {
            name: match outer {
                Some(outer) => outer.name.clone(),
                None => text(name).ok_or(FormError::Disposition)?,
            },
            filename: text(filename).or_else(|| outer.and_then(|outer| outer.filename.clone())),
            content_type: text(self.content_type),
            transfer_encoding: text(self.transfer_encoding)
                .or_else(|| outer.and_then(|outer| outer.transfer_encoding.clone())),
        })
    }
}
