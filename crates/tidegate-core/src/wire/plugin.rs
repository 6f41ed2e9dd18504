//! What plugins of a policy are asked, and what they answer, as bytes.
//!
//! ```text
//! resolve   1 version   1 'P'   name   8 form   1 outputs (1..=16)   then as many names
//!           1 facts (0..=32)    then per fact: 4 length (all ones: there is none)   its bytes
//!           A name: 1 length (1..=64)   as many of a-z 0-9 _ -
//! resolved  1 version   1 'Q'   1 outcome
//!           0 answered: 1 outputs (1..=16)   then per output: 2 length (all ones: none)   UTF-8
//!           1 unknown   2 mismatch   3 failed   4 busy
//!           The outcome's highest bit is set by a proxy that runs the plugin itself.
//! ```

use super::{Malformed, RESOLVE, RESOLVED, Reader, VERSION, short_len};
use crate::plugin::{
    FACTS_BYTES_MAX, FACTS_MAX, OUTPUT_BYTES_MAX, OUTPUTS_MAX, Resolve, Resolved, Unresolved,
};
use crate::policy::NAME_BYTES_MAX;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// The longest ask.
pub const RESOLVE_BYTES_MAX: usize =
    2 + (1 + OUTPUTS_MAX) * (1 + NAME_BYTES_MAX) + 8 + 2 + FACTS_MAX * 4 + FACTS_BYTES_MAX;

/// The longest answer.
pub const RESOLVED_BYTES_MAX: usize = 4 + OUTPUTS_MAX * (2 + OUTPUT_BYTES_MAX);

const OWN: u8 = 0x80;

/// Encodes what a plugin is asked. An ask outside the bounds of [`Resolve`] gives bytes that nobody
/// will decode.
pub fn encode_resolve(ask: &Resolve) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    bytes.extend([VERSION, RESOLVE]);
    put_name(&mut bytes, &ask.plugin);
    bytes.extend(ask.form.to_le_bytes());
    bytes.push(short_len(ask.outputs.len()));
    ask.outputs.iter().for_each(|name| put_name(&mut bytes, name));
    bytes.push(short_len(ask.facts.len()));
    for fact in &ask.facts {
        let len = fact.as_ref().map_or(u32::MAX, |fact| fact.len() as u32);
        bytes.extend(len.to_le_bytes());
        bytes.extend_from_slice(fact.as_deref().unwrap_or_default());
    }
    bytes
}

/// Decodes what a plugin is asked.
///
/// # Errors
///
/// [`Malformed`] unless [`encode_resolve`] could have made these bytes.
pub fn decode_resolve(bytes: &[u8]) -> Result<Resolve, Malformed> {
    let mut reader = Reader { bytes, at: 0 };
    reader.kind(RESOLVE)?;
    let (plugin, form) = (reader.name()?, reader.u64()?);
    let outputs = reader.count(1, OUTPUTS_MAX, "not 1 to 16 outputs")?;
    let outputs = (0..outputs).map(|_| reader.name()).collect::<Result<_, _>>()?;
    let count = reader.count(0, FACTS_MAX, "more than 32 facts")?;
    let mut left = FACTS_BYTES_MAX;
    let facts = (0..count).map(|_| reader.fact(&mut left)).collect::<Result<_, _>>()?;
    reader.end()?;
    Ok(Resolve { plugin, form, outputs, facts })
}

/// The name of the plugin that is asked, if this is such an ask: for who hands it on.
pub fn plugin_asked(bytes: &[u8]) -> Option<Box<str>> {
    let mut reader = Reader { bytes, at: 0 };
    reader.kind(RESOLVE).ok()?;
    reader.name().ok()
}

/// Encodes what a plugin answered, or why it did not; and whether the asking proxy runs it itself.
pub fn encode_resolved(resolved: &Resolved, is_own: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    let outcome = match resolved {
        Ok(_) => 0,
        Err(Unresolved::Unknown) => 1,
        Err(Unresolved::Mismatch) => 2,
        Err(Unresolved::Failed) => 3,
        Err(Unresolved::Busy) => 4,
    };
    bytes.extend([VERSION, RESOLVED, outcome | if is_own { OWN } else { 0 }]);
    let Ok(outputs) = resolved else { return bytes };
    bytes.push(short_len(outputs.len()));
    for output in outputs {
        let len = output.as_ref().map_or(u16::MAX, |text| text.len() as u16);
        bytes.extend(len.to_le_bytes());
        bytes.extend_from_slice(output.as_deref().unwrap_or_default().as_bytes());
    }
    bytes
}

/// Decodes what a plugin answered, and whether the asking proxy runs it itself.
///
/// # Errors
///
/// [`Malformed`] unless [`encode_resolved`] could have made these bytes.
pub fn decode_resolved(bytes: &[u8]) -> Result<(Resolved, bool), Malformed> {
    let mut reader = Reader { bytes, at: 0 };
    reader.kind(RESOLVED)?;
    let [outcome] = reader.take()?;
    let resolved = match outcome & !OWN {
        0 => {
            let count = reader.count(1, OUTPUTS_MAX, "not 1 to 16 outputs")?;
            Ok((0..count).map(|_| reader.output()).collect::<Result<_, _>>()?)
        }
        1 => Err(Unresolved::Unknown),
        2 => Err(Unresolved::Mismatch),
        3 => Err(Unresolved::Failed),
        4 => Err(Unresolved::Busy),
        _ => return Err(reader.wrong::<1>("no such outcome")),
    };
    reader.end()?;
    Ok((resolved, outcome & OWN != 0))
}

fn put_name(bytes: &mut Vec<u8>, name: &str) {
    bytes.push(short_len(name.len()));
    bytes.extend_from_slice(name.as_bytes());
}

impl<'a> Reader<'a> {
    fn count(&mut self, least: u8, most: usize, or_else: &'static str) -> Result<u8, Malformed> {
        let [count] = self.take()?;
        if count < least || usize::from(count) > most {
            return Err(self.wrong::<1>(or_else));
        }
        Ok(count)
    }

    fn name(&mut self) -> Result<Box<str>, Malformed> {
        let [len] = self.take()?;
        let at = self.at;
        let name = self.run(len.into())?;
        let is_plain = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
        match core::str::from_utf8(name) {
            Ok(text) if (1..=NAME_BYTES_MAX).contains(&len.into()) && name.iter().all(is_plain) => {
                Ok(text.into())
            }
            _ => Err(Malformed { what: "not a name of 1 to 64 of a-z, 0-9, _ and -", at }),
        }
    }

    fn fact(&mut self, left: &mut usize) -> Result<Option<Vec<u8>>, Malformed> {
        let len = self.u32()?;
        if len == u32::MAX {
            return Ok(None);
        }
        *left = left
            .checked_sub(len as usize)
            .ok_or_else(|| self.wrong::<4>("more than 65536 bytes of facts"))?;
        self.run(len as usize).map(|fact| Some(fact.to_vec()))
    }

    fn output(&mut self) -> Result<Option<Box<str>>, Malformed> {
        let len = u16::from_le_bytes(self.take()?);
        if len == u16::MAX {
            return Ok(None);
        }
        if usize::from(len) > OUTPUT_BYTES_MAX {
            return Err(self.wrong::<2>("an output of more than 256 bytes"));
        }
        let at = self.at;
        let text = core::str::from_utf8(self.run(len.into())?);
        text.map(|text| Some(text.into())).map_err(|_| Malformed { what: "not UTF-8", at })
    }

    /// So many bytes.
    fn run(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let ends_early = Malformed { what: "the message ends too early", at: self.at };
        let run = rest.get(..len).ok_or(ends_early)?;
        self.at += len;
        Ok(run)
    }
}
