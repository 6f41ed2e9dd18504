//! The claims of a token that somebody wants to know, by their places in a list of names.
//!
//! Strings are kept as their bytes and whole numbers as their decimal digits, so a claim is the
//! same wherever it was read. Any other value is there, but of the wrong type for an id.

use super::Malformed;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// The longest claim that is taken for an id, in bytes. A longer one is of the wrong type: the
/// ids that issuers hand out are tens of bytes.
pub const CLAIM_BYTES_MAX: usize = 1_024;

/// The latest time in a token, in seconds of Unix time: in 34,000 years. What is beyond it is
/// nonsense, or in milliseconds.
pub const SECS_MAX: u64 = (1 << 40) - 1;

/// Whole numbers of larger magnitude than this are not the same to all who read JSON.
const WHOLE_MAX: u64 = 1 << 53;

/// Claims by place, and the buffer that their bytes lie in.
pub struct Claims {
    names: Vec<Box<str>>,
    values: Vec<Value>,
    /// Reused from token to token.
    pub(super) text: Vec<u8>,
}

#[derive(Clone, Copy, Default)]
struct Value {
    is_there: bool,
    /// Whether it is a string or a whole number of sane size.
    is_id: bool,
    /// Where its text stands, if it has one.
    text: Option<(usize, usize)>,
    /// Whole seconds, if it is a number that can be a time.
    secs: Option<u64>,
}

/// A claim of the wrong type: a list for an id, a string for a time, a number beyond all bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongType;

/// A number as JSON may write it, as far as claims need it.
#[derive(Clone, Copy)]
pub(super) struct Number {
    pub(super) is_negative: bool,
    /// Its magnitude without the fraction; `u64::MAX` for more than that.
    pub(super) whole: u64,
    /// Whether that is all of it.
    pub(super) is_whole: bool,
}

impl Claims {
    /// For the claims of these names; the order gives each its place.
    pub fn new(names: Vec<Box<str>>) -> Self {
        let values = names.iter().map(|_| Value::default()).collect();
        Self { names, values, text: Vec::new() }
    }

    /// Whether there is a claim at this place, of whatever type.
    pub fn is_there(&self, place: usize) -> bool {
        self.values.get(place).is_some_and(|value| value.is_there)
    }

    /// A claim that names something: a string's bytes, or the decimal digits of a whole number
    /// of magnitude up to 2^53. `None` if the token does not have it.
    ///
    /// # Errors
    ///
    /// [`WrongType`] for anything else, and beyond [`CLAIM_BYTES_MAX`].
    pub fn id(&self, place: usize) -> Result<Option<&[u8]>, WrongType> {
        match self.values.get(place) {
            Some(value) if value.is_there && !value.is_id => Err(WrongType),
            _ => Ok(self.text(place)),
        }
    }

    /// A claim that tells a time, in whole seconds of Unix time; a fraction is cut off.
    ///
    /// # Errors
    ///
    /// [`WrongType`] for what is no number, is negative, or beyond [`SECS_MAX`].
    pub fn secs(&self, place: usize) -> Result<Option<u64>, WrongType> {
        match self.values.get(place) {
            Some(value) if value.is_there => value.secs.ok_or(WrongType).map(Some),
            _ => Ok(None),
        }
    }

    /// A claim as text, if it has one: as [`Claims::id`] has it, or `true` or `false`.
    pub fn text(&self, place: usize) -> Option<&[u8]> {
        let (start, end) = self.values.get(place)?.text?;
        self.text.get(start..end)
    }

    /// Forgets the last token.
    pub(super) fn clear(&mut self) {
        self.values.fill(Value::default());
        self.text.clear();
    }

    /// The place of the claim of this name, if it is wanted.
    pub(super) fn place(&self, name: &[u8]) -> Option<usize> {
        self.names.iter().position(|wanted| wanted.as_bytes() == name)
    }

    /// Puts a string whose bytes begin at `start` and are the last in the buffer.
    pub(super) fn put_string(&mut self, place: usize, start: usize) -> Result<(), Malformed> {
        let end = self.text.len();
        let fits = end - start <= CLAIM_BYTES_MAX;
        let text = fits.then_some((start, end));
        self.put(place, Value { is_id: fits, text, ..Value::default() })
    }

    /// Puts a number.
    pub(super) fn put_number(&mut self, place: usize, number: Number) -> Result<(), Malformed> {
        let Number { is_negative, whole, is_whole } = number;
        let is_zero = whole == 0 && is_whole;
        let secs = (whole <= SECS_MAX && (!is_negative || is_zero)).then_some(whole);
        let is_id = is_whole && whole <= WHOLE_MAX;
        let text = is_id.then(|| self.write_whole(is_negative && !is_zero, whole));
        self.put(place, Value { is_id, text, secs, ..Value::default() })
    }

    /// Puts `true` or `false`.
    pub(super) fn put_flag(&mut self, place: usize, flag: bool) -> Result<(), Malformed> {
        let start = self.text.len();
        self.text.extend_from_slice(if flag { b"true" } else { b"false" });
        let text = Some((start, self.text.len()));
        self.put(place, Value { text, ..Value::default() })
    }

    /// Puts what is neither of these: nothing, a list or a map.
    pub(super) fn put_other(&mut self, place: usize) -> Result<(), Malformed> {
        self.put(place, Value::default())
    }

    /// A claim that is there twice makes its token malformed (RFC 8725 3.10 would have it so of
    /// any name): readers differ in which of them holds.
    fn put(&mut self, place: usize, value: Value) -> Result<(), Malformed> {
        let known = self.values.get_mut(place).filter(|known| !known.is_there).ok_or(Malformed)?;
        *known = Value { is_there: true, ..value };
        Ok(())
    }

    /// Writes decimal digits, without the machinery of formatting.
    fn write_whole(&mut self, is_negative: bool, whole: u64) -> (usize, usize) {
        let start = self.text.len();
        if is_negative {
            self.text.push(b'-');
        }
        let digits = self.text.len();
        let mut rest = whole;
        loop {
            self.text.push(b'0' + (rest % 10) as u8);
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if let Some(digits) = self.text.get_mut(digits..) {
            digits.reverse();
        }
        (start, self.text.len())
    }
}

impl Number {
    /// A number that comes as a double; `None` for what is not finite.
    pub(super) fn from_double(double: f64) -> Option<Self> {
        let magnitude = double.abs();
        let whole = magnitude as u64; // of too large a number the largest
        let is_whole = whole as f64 == magnitude;
        let number = Self { is_negative: double < 0.0, whole, is_whole };
        double.is_finite().then_some(number)
    }
}
