//! The wire encoding of protobuf messages, field by field.
//!
//! Source: protobuf's encoding guide. Sixty lines are less than any protobuf crate, and there is
//! nothing to generate. Left out, because no message that a proxy hands us has them: groups and
//! 32-bit fields.

/// The content of one field, by its wire type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Payload<'a> {
    /// Whole numbers, flags and enumerations.
    Varint(u64),
    /// A double.
    Double(f64),
    /// Text, bytes, and messages within messages.
    Bytes(&'a [u8]),
}

/// Why bytes are no message, in a few words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// Takes the next field off `bytes`: its number and content. `None` at the end.
///
/// # Errors
///
/// [`Malformed`] for what is cut short or has a wire type that is left out here.
pub fn next<'a>(bytes: &mut &'a [u8]) -> Result<Option<(u64, Payload<'a>)>, Malformed> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let key = varint(bytes)?;
    let payload = match key & 7 {
        0 => Payload::Varint(varint(bytes)?),
        1 => {
            let (double, rest) = bytes.split_first_chunk().ok_or(CUT_SHORT)?;
            *bytes = rest;
            Payload::Double(f64::from_le_bytes(*double))
        }
        2 => {
            let length = usize::try_from(varint(bytes)?).unwrap_or(usize::MAX);
            let (content, rest) = bytes.split_at_checked(length).ok_or(CUT_SHORT)?;
            *bytes = rest;
            Payload::Bytes(content)
        }
        _ => return Err(Malformed("a wire type that is not used here")),
    };
    Ok(Some((key >> 3, payload)))
}

const CUT_SHORT: Malformed = Malformed("cut short");

fn varint(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(CUT_SHORT)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Malformed("a number longer than ten bytes"))
}
