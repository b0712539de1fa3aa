//! Protocol buffers read in place: a cursor over a message's fields, without copies.
//!
//! ```text
//! field = key varint (number << 3 | type) | type 0: varint | 1: 8 bytes | 2: length varint, bytes | 5: 4 bytes
//! ```
//! Types 3 and 4 (groups) are of the past and refused. All offsets are into the whole body, so that an error can say where.

use crate::ingest::DecodeError;

/// A cursor over the fields of the message at `at..end` of `body`.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    body: &'a [u8],
    at: usize,
}

/// One field: its number and value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Field {
    /// Type 0.
    Varint(u32, u64),
    /// Type 1.
    Fixed64(u32, u64),
    /// Type 2: where its bytes are.
    Bytes(u32, usize, usize),
    /// Type 5.
    Fixed32(u32),
}

impl<'a> Cursor<'a> {
    /// Returns a cursor over `body[from..to]`.
    #[inline]
    pub(super) fn new(body: &'a [u8], from: usize, to: usize) -> Cursor<'a> {
        Cursor {
            body: &body[..to],
            at: from,
        }
    }

    /// Returns where the cursor stands.
    #[inline]
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Returns the next field, `None` at the message's end.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<Field>, DecodeError> {
        if self.at == self.body.len() {
            return Ok(None);
        }
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).map_err(|_| self.malformed("a field number is too large"))?;
        let field = match key & 7 {
            0 => Field::Varint(number, self.varint()?),
            1 => Field::Fixed64(number, u64::from_le_bytes(self.take()?)),
            2 => {
                let (from, to) = self.span()?;
                Field::Bytes(number, from, to)
            }
            5 => {
                self.take::<4>()?;
                Field::Fixed32(number)
            }
            _ => return Err(self.malformed("an unknown wire type")),
        };
        if number == 0 {
            return Err(self.malformed("field number 0"));
        }
        Ok(Some(field))
    }

    /// When the next byte is `tag` (a one-byte key of type 2), reads that field and returns where its bytes are.
    #[inline]
    pub(super) fn bytes_if(&mut self, tag: u8) -> Result<Option<(usize, usize)>, DecodeError> {
        if self.body.get(self.at) != Some(&tag) {
            return Ok(None);
        }
        self.at += 1;
        self.span().map(Some)
    }

    #[inline]
    fn span(&mut self) -> Result<(usize, usize), DecodeError> {
        let length = self.varint()?;
        let from = self.at;
        match usize::try_from(length).ok().and_then(|length| from.checked_add(length)) {
            Some(to) if to <= self.body.len() => {
                self.at = to;
                Ok((from, to))
            }
            _ => Err(self.malformed("a length runs past the end of its message")),
        }
    }

    #[inline]
    fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.body.get(self.at..).and_then(|rest| rest.first_chunk::<N>()) {
            Some(bytes) => {
                self.at += N;
                Ok(*bytes)
            }
            None => Err(self.malformed("a number is cut off")),
        }
    }

    /// Reads a varint of at most ten bytes.
    #[inline]
    pub(super) fn varint(&mut self) -> Result<u64, DecodeError> {
        let rest = &self.body[self.at..];
        if let Some(&byte) = rest.first()
            && byte < 0x80
        {
            self.at += 1;
            return Ok(u64::from(byte));
        }
        let mut value = 0u64;
        for (i, &byte) in rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                self.at += i + 1;
                return Ok(value);
            }
        }
        Err(self.malformed("a varint does not end"))
    }

    #[cold]
    pub(super) fn malformed(&self, what: &str) -> DecodeError {
        DecodeError::Malformed(format!(
            "malformed protobuf body: {what}, at byte {} of the decoded body",
            self.at
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields(body: &[u8]) -> Result<Vec<Field>, DecodeError> {
        let mut cursor = Cursor::new(body, 0, body.len());
        let mut fields = Vec::new();
        while let Some(field) = cursor.next()? {
            fields.push(field);
        }
        Ok(fields)
    }

    #[test]
    fn each_wire_type_is_read() {
        let body = [
            0x08, 0x96, 0x01, 0x11, 1, 0, 0, 0, 0, 0, 0, 0, 0x1a, 2, b'h', b'i', 0x25, 0, 0, 0, 0,
        ];
        let expected = [
            Field::Varint(1, 150),
            Field::Fixed64(2, 1),
            Field::Bytes(3, 14, 16),
            Field::Fixed32(4),
        ];
        assert_eq!(fields(&body).unwrap(), expected);
    }

    #[test]
    fn what_is_cut_off_or_unknown_is_an_error_with_its_place() {
        for (body, what) in [
            (&[0x08][..], "varint does not end"),
            (&[0x08, 0x80][..], "varint does not end"),
            (
                &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff][..],
                "varint does not end",
            ),
            (&[0x09, 1][..], "cut off"),
            (&[0x0a, 5, 1][..], "runs past the end"),
            (&[0x0b][..], "unknown wire type"),
            (&[0x00, 0x00][..], "field number 0"),
        ] {
            let error = fields(body).unwrap_err().to_string();
            assert!(error.contains(what) && error.contains("at byte"), "{body:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = fields(&body);
        }
    }
}
