//! Claims out of a JSON object, in one pass over its text and in constant space.
//!
//! The text must be JSON as RFC 8259 has it, to its end, and its root an object. Only members of
//! that object are claims; what lies deeper is gone through, its brackets held against a stack of
//! bits, and forgotten. Nothing recurses, so no nesting can exhaust a stack.

use super::claims::{Claims, Number};
use super::{Malformed, PAYLOAD_BYTES_MAX};
use crate::json::escaped;

/// How deep a payload may be nested, its root included: a bit each in a word.
pub const DEPTH_MAX: u32 = 64;

/// Reads the wanted claims.
///
/// # Errors
///
/// [`Malformed`] for what is not exactly one object in UTF-8 of at most [`PAYLOAD_BYTES_MAX`] and
/// [`DEPTH_MAX`], and for a wanted claim that is there twice.
pub fn read(json: &[u8], claims: &mut Claims) -> Result<(), Malformed> {
    claims.clear();
    if json.len() > PAYLOAD_BYTES_MAX || core::str::from_utf8(json).is_err() {
        return Err(Malformed);
    }
    let mut text = Text(json);
    text.expect(b'{')?;
    // Of each open level, the innermost lowest: whether it is an object.
    let (mut depth, mut objects, mut is_first) = (1, 1_u64, true);
    while depth > 0 {
        let is_object = objects & 1 == 1;
        let mut byte = text.token()?;
        if byte == if is_object { b'}' } else { b']' } {
            (depth, objects, is_first) = (depth - 1, objects >> 1, false);
            continue;
        }
        if !is_first {
            if byte != b',' {
                return Err(Malformed);
            }
            byte = text.token()?;
        }
        let start = claims.text.len();
        let mut place = None;
        if is_object {
            if byte != b'"' {
                return Err(Malformed);
            }
            text.string(claims)?;
            let name = claims.text.get(start..).unwrap_or_default();
            place = claims.place(name).filter(|_| depth == 1);
            claims.text.truncate(start);
            text.expect(b':')?;
            byte = text.token()?;
        }
        is_first = matches!(byte, b'{' | b'[');
        if is_first {
            if depth == DEPTH_MAX {
                return Err(Malformed);
            }
            (depth, objects) = (depth + 1, objects << 1 | u64::from(byte == b'{'));
            place.map_or(Ok(()), |place| claims.put_other(place))?;
        } else {
            text.scalar(byte, place, claims)?;
        }
    }
    text.skip_space();
    if text.0.is_empty() { Ok(()) } else { Err(Malformed) }
}

/// What is left of the text.
struct Text<'a>(&'a [u8]);

impl Text<'_> {
    fn next(&mut self) -> Result<u8, Malformed> {
        let (&byte, rest) = self.0.split_first().ok_or(Malformed)?;
        self.0 = rest;
        Ok(byte)
    }

    /// Takes the next byte if it is one that `is_taken`.
    fn take_if(&mut self, is_taken: impl FnOnce(u8) -> bool) -> Option<u8> {
        let (&byte, rest) = self.0.split_first().filter(|(byte, _)| is_taken(**byte))?;
        self.0 = rest;
        Some(byte)
    }

    fn skip_space(&mut self) {
        while self.take_if(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t')).is_some() {}
    }

    /// The next byte that is no space.
    fn token(&mut self) -> Result<u8, Malformed> {
        self.skip_space();
        self.next()
    }

    fn expect(&mut self, wanted: u8) -> Result<(), Malformed> {
        if self.token()? == wanted { Ok(()) } else { Err(Malformed) }
    }

    /// A value without inner ones, whose first byte was taken.
    fn scalar(
        &mut self,
        first: u8,
        place: Option<usize>,
        claims: &mut Claims,
    ) -> Result<(), Malformed> {
        let start = claims.text.len();
        match first {
            b'"' => {
                self.string(claims)?;
                match place {
                    Some(place) => claims.put_string(place, start),
                    None => {
                        claims.text.truncate(start);
                        Ok(())
                    }
                }
            }
            b't' => self.word(b"rue").and_then(|()| place_flag(claims, place, true)),
            b'f' => self.word(b"alse").and_then(|()| place_flag(claims, place, false)),
            b'n' => {
                self.word(b"ull")?;
                place.map_or(Ok(()), |place| claims.put_other(place))
            }
            _ => {
                let number = self.number(first)?;
                place.map_or(Ok(()), |place| claims.put_number(place, number))
            }
        }
    }

    fn word(&mut self, rest: &[u8]) -> Result<(), Malformed> {
        self.0 = self.0.strip_prefix(rest).ok_or(Malformed)?;
        Ok(())
    }

    /// A string whose opening quote was taken: its text, unescaped, goes to the claims' buffer.
    fn string(&mut self, claims: &mut Claims) -> Result<(), Malformed> {
        loop {
            let end = self.0.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
            let (plain, rest) = self.0.split_at_checked(end.ok_or(Malformed)?).ok_or(Malformed)?;
            claims.text.extend_from_slice(plain);
            self.0 = rest;
            match self.next()? {
                b'"' => return Ok(()),
                b'\\' => {
                    let char = self.escaped()?;
                    claims.text.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
                }
                _ => return Err(Malformed),
            }
        }
    }

    /// What stands behind a backslash.
    fn escaped(&mut self) -> Result<char, Malformed> {
        let mut at = 0;
        let char = escaped(self.0, &mut at).map_err(|_| Malformed)?;
        self.0 = self.0.get(at..).unwrap_or_default();
        Ok(char)
    }

    /// A number whose first byte was taken, with fraction and exponent.
    fn number(&mut self, first: u8) -> Result<Number, Malformed> {
        let mut decimal = Decimal { is_whole: true, ..Decimal::default() };
        let is_negative = first == b'-';
        let first = if is_negative { self.next()? } else { first };
        if !first.is_ascii_digit() {
            return Err(Malformed);
        }
        if first != b'0' {
            decimal.push(first, 0);
            self.digits(&mut decimal, 0);
        }
        if self.take_if(|byte| byte == b'.').is_some() && !self.digits(&mut decimal, 1) {
            return Err(Malformed);
        }
        if self.take_if(|byte| byte | 0x20 == b'e').is_some() {
            let sign = self.take_if(|byte| matches!(byte, b'+' | b'-'));
            let mut power = Decimal::default();
            if !self.digits(&mut power, 0) {
                return Err(Malformed);
            }
            let power = power.digits.min(1 << 20) as i32;
            decimal.exponent += if sign == Some(b'-') { -power } else { power };
        }
        let (whole, is_whole) = decimal.split();
        Ok(Number { is_negative, whole, is_whole })
    }

    /// Takes digits, of a fraction if `places` is 1; whether there were any.
    fn digits(&mut self, decimal: &mut Decimal, places: i32) -> bool {
        let before = self.0.len();
        while let Some(digit) = self.take_if(|byte| byte.is_ascii_digit()) {
            decimal.push(digit, places);
        }
        self.0.len() < before
    }
}

fn place_flag(claims: &mut Claims, place: Option<usize>, flag: bool) -> Result<(), Malformed> {
    place.map_or(Ok(()), |place| claims.put_flag(place, flag))
}

/// `digits * 10^exponent`; without floating point, whose reader is 10 KiB in a filter.
#[derive(Default)]
struct Decimal {
    digits: u64,
    exponent: i32,
    /// Whether all digits that were left out are zeros.
    is_whole: bool,
}

impl Decimal {
    /// Takes one more digit, of the fraction if `places` is 1. Those after the 18th are left out.
    fn push(&mut self, digit: u8, places: i32) {
        if self.digits < 100_000_000_000_000_000 {
            self.digits = self.digits * 10 + u64::from(digit - b'0');
            self.exponent -= places;
        } else {
            self.is_whole &= digit == b'0';
            self.exponent += 1 - places;
        }
    }

    /// Its whole part, `u64::MAX` if it is more than that, and whether that is all of it.
    fn split(self) -> (u64, bool) {
        let Self { digits: mut whole, exponent, mut is_whole } = self;
        if whole == 0 {
            return (0, is_whole);
        }
        // Twenty steps make anything too large, or nothing.
        for _ in 0..exponent.clamp(0, 20) {
            whole = whole.saturating_mul(10);
        }
        for _ in 0..(-exponent).clamp(0, 20) {
            is_whole &= whole % 10 == 0;
            whole /= 10;
        }
        (whole, is_whole)
    }
}
