//! The few lines of protobuf's wire format that properties and foreign functions need: a
//! message is fields, each a number and either a varint or bytes.

/// A field's value, as far as its wire type tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// Eight or four bytes; nothing here has any.
    Fixed,
}

/// Bytes that are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The fields of a message, in order. Nothing follows a [`Malformed`] one.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn field(&mut self) -> Result<(u64, Wire<'a>), Malformed> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => self.take(8).map(|_| Wire::Fixed)?,
            2 => {
                let len = self.varint()?;
                Wire::Bytes(self.take(usize::try_from(len).map_err(|_| Malformed)?)?)
            }
            5 => self.take(4).map(|_| Wire::Fixed)?,
            // Groups were given up long ago.
            _ => return Err(Malformed),
        };
        if tag >> 3 == 0 { Err(Malformed) } else { Ok((tag >> 3, value)) }
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first().ok_or(Malformed)?;
            self.rest = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Wire<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// Appends a field of bytes, text or a message.
pub(crate) fn put_bytes(number: u32, bytes: &[u8], to: &mut Vec<u8>) {
    put_varint(u64::from(number) << 3 | 2, to);
    put_varint(bytes.len() as u64, to);
    to.extend_from_slice(bytes);
}

/// Appends a field of text, unless it is empty: then it has its default, and is left out.
pub(crate) fn put_text(number: u32, text: &str, to: &mut Vec<u8>) {
    if !text.is_empty() {
        put_bytes(number, text.as_bytes(), to);
    }
}

/// Appends a field that is true; a false one is left out.
pub(crate) fn put_true(number: u32, to: &mut Vec<u8>) {
    put_varint(u64::from(number) << 3, to);
    to.push(1);
}

fn put_varint(mut number: u64, to: &mut Vec<u8>) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields(message: &[u8]) -> Result<Vec<(u64, Wire<'_>)>, Malformed> {
        Fields::new(message).collect()
    }

    #[test]
    fn fields_are_read_as_the_format_says() {
        // The encoding guide's own example: field 1 is 150.
        assert_eq!(fields(&[0x08, 0x96, 0x01]), Ok(vec![(1, Wire::Varint(150))]));
        assert_eq!(fields(b"\x12\x07testing"), Ok(vec![(2, Wire::Bytes(b"testing"))]));
        assert_eq!(fields(&[0x0d, 1, 2, 3, 4]), Ok(vec![(1, Wire::Fixed)]));
        assert_eq!(fields(&[]), Ok(vec![]));
    }

    #[test]
    fn what_is_cut_off_or_unknown_is_malformed() {
        let cases: [&[u8]; 5] = [&[0xff], &[0x08], &[0x12, 5, 1], &[0x0b], &[0x00, 1]];
        for case in cases {
            assert_eq!(fields(case), Err(Malformed), "{case:?}");
        }
        let endless = [&[0x08][..], &[0xff; 11]].concat();
        assert_eq!(fields(&endless), Err(Malformed));
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(numbers in proptest::collection::vec((1_u32..1 << 29, any::<Vec<u8>>()), 0..8)) {
            let mut message = Vec::new();
            for (number, bytes) in &numbers {
                put_bytes(*number, bytes, &mut message);
            }
            let read = fields(&message).unwrap();
            let wanted: Vec<_> =
                numbers.iter().map(|(number, bytes)| (u64::from(*number), Wire::Bytes(bytes))).collect();
            prop_assert_eq!(read, wanted);
        }

        #[test]
        fn no_bytes_at_all_do_harm(bytes: Vec<u8>) {
            let _ = fields(&bytes);
        }
    }
}
