//! What is said of revocations, as bytes.
//!
//! ```text
//! news ask   1 version   1 'N'   24 known   8 cut   1 form (0 fuse, 1 pages; 2 more: keys, too)
//! news       1 version   1 'M'   24 position   4 held (ms)   4 age (ms)
//!            1 flags (1 more, 2 manifest, 4 anew, 8 keys)
//!            manifest: 8 cut   1 form   4 span (s)   1 keys (0..=2)   1 images (0..=128)
//!                      per key 32;   per image 4 generation   8 checksum   4 bytes
//!            keys: 1 keys (0..=2)   32 each
//!            2 deltas (0..=2048)   per delta 4 how many entries before the position its own is
//!                      (all ones: it is in none yet)   16 id   5 before (s)   4 age (ms)
//! chunk ask  1 version   1 'C'   8 image   4 offset
//! chunk      1 version   1 'K'   8 image   4 offset   8 checksum   1 to 256 Ki bytes
//! check      1 version   1 'X'   1 ids (1..=16)   16 each
//! checked    1 version   1 'Y'   24 position   4 age (ms)   1 ids (1..=16)   5 before (s) each
//! position   8 log   8 number   8 chain
//! ```

use super::{
    CHECK, CHECKED, CHUNK, CHUNK_ASK, Malformed, NEWS, NEWS_ASK, Reader, VERSION, short_len,
};
use crate::revoke::deltas::UNNUMBERED;
use crate::revoke::id::IdKey;
use crate::revoke::message::{
    CHECKED_MAX, CHUNK_BYTES, Check, Checked, Chunk, ChunkAsk, DELTAS_MAX, Delta, Form,
    ID_KEYS_MAX, IMAGE_BYTES_MAX, IMAGES_MAX, Image, Manifest, News, NewsAsk,
};
use crate::revoke::record::{low, whole};
use crate::revoke::{EVER, Id, Position};
use alloc::vec::Vec;
use xxhash_rust::xxh64::xxh64;

/// The longest news.
pub const NEWS_BYTES_MAX: usize = 2
    + POSITION_BYTES
    + 9
    + (15 + ID_KEYS_MAX * 32 + IMAGES_MAX * IMAGE_BYTES)
    + (1 + ID_KEYS_MAX * 32)
    + 2
    + DELTAS_MAX * DELTA_BYTES;

/// The longest chunk.
pub const CHUNK_MESSAGE_BYTES_MAX: usize = CHUNK_HEAD_BYTES + CHUNK_BYTES;

/// The longest answer to a check.
pub const CHECKED_BYTES_MAX: usize = 2 + POSITION_BYTES + 5 + CHECKED_MAX * BEFORE_BYTES;

/// The longest ask about revocations.
pub const REVOKE_ASK_BYTES_MAX: usize = 3 + CHECKED_MAX * 16;

const POSITION_BYTES: usize = 24;
const BEFORE_BYTES: usize = 5;
const IMAGE_BYTES: usize = 4 + 8 + 4;
const DELTA_BYTES: usize = 4 + 16 + BEFORE_BYTES + 4;
const CHUNK_HEAD_BYTES: usize = 2 + 8 + 4 + 8;

/// How many entries before the position one is that is in none, and one that is too far back.
const IN_NO_ENTRY: u32 = u32::MAX;
const FAR: u32 = u32::MAX - 1;

const MORE: u8 = 1;
const MANIFEST: u8 = 2;
const ANEW: u8 = 4;
const KEYS: u8 = 8;

/// What is added to the form if keys are wanted.
const WANTS_KEYS: u8 = 2;

/// What images are told apart and checked by.
pub fn checksum(bytes: &[u8]) -> u64 {
    xxh64(bytes, 0)
}

/// Encodes the question what is new.
pub fn encode_news_ask(ask: &NewsAsk) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2 + POSITION_BYTES + 9);
    bytes.extend([VERSION, NEWS_ASK]);
    put_position(&mut bytes, &ask.known);
    bytes.extend(ask.cut.to_le_bytes());
    let keys = if ask.wants_keys { WANTS_KEYS } else { 0 };
    bytes.push(u8::from(ask.form == Form::Pages) | keys);
    bytes
}

/// Decodes the question what is new.
///
/// # Errors
///
/// [`Malformed`] unless [`encode_news_ask`] could have made these bytes.
pub fn decode_news_ask(bytes: &[u8]) -> Result<NewsAsk, Malformed> {
    let mut reader = Reader { bytes, at: 0 };
    reader.kind(NEWS_ASK)?;
    let (known, cut) = (reader.position()?, reader.u64()?);
    let [form] = reader.take()?;
    let wants_keys = form & WANTS_KEYS != 0;
    let form = reader.form(form & !WANTS_KEYS)?;
    reader.end()?;
    Ok(NewsAsk { known, cut, form, wants_keys })
}

/// Encodes news. News outside their bounds give bytes that nobody will decode.
pub fn encode_news(news: &News) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64 + news.deltas.len() * DELTA_BYTES);
    bytes.extend([VERSION, NEWS]);
    put_position(&mut bytes, &news.position);
    bytes.extend(news.held_ms.to_le_bytes());
    bytes.extend(news.age_ms.to_le_bytes());
    let flag = |is_set, flag| if is_set { flag } else { 0 };
    let manifest = flag(news.manifest.is_some(), MANIFEST);
    let keys = flag(news.id_keys.is_some(), KEYS);
    bytes.push(flag(news.more, MORE) | manifest | flag(news.anew, ANEW) | keys);
    if let Some(manifest) = &news.manifest {
        put_manifest(&mut bytes, manifest);
    }
    if let Some(keys) = &news.id_keys {
        bytes.push(short_len(keys.len()));
        keys.iter().for_each(|key| bytes.extend(key));
    }
    bytes.extend(u16::try_from(news.deltas.len()).unwrap_or(u16::MAX).to_le_bytes());
    for delta in &news.deltas {
        let before = match delta.number {
            UNNUMBERED => IN_NO_ENTRY,
            number => u32::try_from(news.position.number.saturating_sub(number)).unwrap_or(FAR),
        };
        bytes.extend(before.to_le_bytes());
        bytes.extend(delta.id.0);
        bytes.extend(low::<BEFORE_BYTES>(delta.before_secs.min(EVER)));
        bytes.extend(delta.age_ms.to_le_bytes());
    }
    bytes
}

/// Decodes news.
///
/// # Errors
///
/// [`Malformed`] unless [`encode_news`] could have made these bytes.
pub fn decode_news(bytes: &[u8]) -> Result<News, Malformed> {
    let mut reader = Reader { bytes, at: 0 };
    reader.kind(NEWS)?;
    let (position, held_ms, age_ms) = (reader.position()?, reader.u32()?, reader.u32()?);
    let [flags] = reader.take()?;
    if flags > MORE | MANIFEST | ANEW | KEYS {
        return Err(reader.wrong::<1>("no such flag"));
    }
    let manifest = if flags & MANIFEST == 0 { None } else { Some(reader.manifest()?) };
    let mut id_keys = None;
    if flags & KEYS != 0 {
        let [count] = reader.take()?;
        id_keys = Some(reader.id_keys(count)?);
    }
    let count = usize::from(u16::from_le_bytes(reader.take()?));
    if count > DELTAS_MAX {
        return Err(reader.wrong::<2>("more than 2048 deltas"));
    }
    let deltas = (0..count).map(|_| reader.delta(&position)).collect::<Result<_, _>>()?;
    reader.end()?;
    let (more, anew) = (flags & MORE != 0, flags & ANEW != 0);
    Ok(News { position, held_ms, age_ms, more, manifest, anew, id_keys, deltas })
}

/// Encodes an ask for a piece of an image.
pub fn encode_chunk_ask(ask: &ChunkAsk) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(14);
    bytes.extend([VERSION, CHUNK_ASK]);
    bytes.extend(ask.image.to_le_bytes());
    bytes.extend(ask.offset.to_le_bytes());
    bytes
}

/// Decodes an ask for a piece of an image.
///
/// # Errors
///
/// [`Malformed`] unless [`encode_chunk_ask`] could have made these bytes.
pub fn decode_chunk_ask(bytes: &[u8]) -> Result<ChunkAsk, Malformed> {
    let mut reader = Reader { bytes, at: 0 };
    reader.kind(CHUNK_ASK)?;
    let ask = ChunkAsk { image: reader.u64()?, offset: reader.offset()? };
    reader.end()?;
    Ok(ask)
}

/// Encodes a piece of an image.
pub fn encode_chunk(image: u64, offset: u32, piece: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(CHUNK_HEAD_BYTES + piece.len());
    bytes.extend([VERSION, CHUNK]);
    bytes.extend(image.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes.extend(checksum(piece).to_le_bytes());
    bytes.extend(piece);
    bytes
}

/// Decodes a piece of an image, and checks that it is whole.
///
/// # Errors
///
/// [`Malformed`] unless [`encode_chunk`] could have made these bytes.
pub fn decode_chunk(bytes: &[u8]) -> Result<Chunk, Malformed> {
    let mut reader = Reader { bytes, at: 0 };
    reader.kind(CHUNK)?;
    let (image, offset, expected) = (reader.u64()?, reader.offset()?, reader.u64()?);
    let piece = bytes.get(reader.at..).unwrap_or_default();
    if piece.is_empty() || piece.len() > CHUNK_BYTES {
        return Err(Malformed { what: "not 1 to 262144 bytes of an image", at: reader.at });
    }
    if checksum(piece) != expected {
        return Err(reader.wrong::<8>("a checksum of other bytes"));
    }
    Ok(Chunk { image, offset, bytes: piece.to_vec() })
}

/// Encodes the question whether these are revoked. One of other than 1 to 16 ids gives bytes that
/// nobody will decode.
pub fn encode_check(check: &Check) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(3 + check.ids.len() * 16);
    bytes.extend([VERSION, CHECK, short_len(check.ids.len())]);
    check.ids.iter().for_each(|id| bytes.extend(id.0));
    bytes
}

/// Decodes the question whether these are revoked.
///
/// # Errors
///
/// [`Malformed`] unless [`encode_check`] could have made these bytes.
pub fn decode_check(bytes: &[u8]) -> Result<Check, Malformed> {
    let mut reader = Reader { bytes, at: 0 };
    let count = reader.head(CHECK, CHECKED_MAX, "not 1 to 16 ids")?;
    let ids = (0..count).map(|_| reader.take().map(Id)).collect::<Result<_, _>>()?;
    reader.end()?;
    Ok(Check { ids })
}

/// Encodes what is known of some ids.
pub fn encode_checked(checked: &Checked) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(CHECKED_BYTES_MAX);
    bytes.extend([VERSION, CHECKED]);
    put_position(&mut bytes, &checked.position);
    bytes.extend(checked.age_ms.to_le_bytes());
    bytes.push(short_len(checked.before_secs.len()));
    for before_secs in &checked.before_secs {
        bytes.extend(low::<BEFORE_BYTES>((*before_secs).min(EVER)));
    }
    bytes
}

/// Decodes what is known of some ids.
///
/// # Errors
///
/// [`Malformed`] unless [`encode_checked`] could have made these bytes.
pub fn decode_checked(bytes: &[u8]) -> Result<Checked, Malformed> {
    let mut reader = Reader { bytes, at: 0 };
    reader.kind(CHECKED)?;
    let (position, age_ms) = (reader.position()?, reader.u32()?);
    let [count] = reader.take()?;
    if count == 0 || usize::from(count) > CHECKED_MAX {
        return Err(reader.wrong::<1>("not 1 to 16 ids"));
    }
    let before_secs = (0..count).map(|_| reader.before()).collect::<Result<_, _>>()?;
    reader.end()?;
    Ok(Checked { position, age_ms, before_secs })
}

fn put_position(bytes: &mut Vec<u8>, position: &Position) {
    for part in [position.log, position.number, position.chain] {
        bytes.extend(part.to_le_bytes());
    }
}

fn put_manifest(bytes: &mut Vec<u8>, manifest: &Manifest) {
    bytes.extend(manifest.cut.to_le_bytes());
    bytes.push(u8::from(manifest.form == Form::Pages));
    bytes.extend(manifest.span_secs.to_le_bytes());
    bytes.extend([short_len(manifest.id_keys.len()), short_len(manifest.images.len())]);
    manifest.id_keys.iter().for_each(|key| bytes.extend(key));
    for image in &manifest.images {
        bytes.extend(image.generation.to_le_bytes());
        bytes.extend(image.checksum.to_le_bytes());
        bytes.extend(image.bytes.to_le_bytes());
    }
}

impl Reader<'_> {
    fn position(&mut self) -> Result<Position, Malformed> {
        Ok(Position { log: self.u64()?, number: self.u64()?, chain: self.u64()? })
    }

    fn manifest(&mut self) -> Result<Manifest, Malformed> {
        let cut = self.u64()?;
        let [form] = self.take()?;
        let (form, span_secs) = (self.form(form)?, self.u32()?);
        let [keys, images] = self.take()?;
        if usize::from(images) > IMAGES_MAX {
            return Err(self.wrong::<2>("more than 128 images"));
        }
        let id_keys = self.id_keys(keys)?;
        let mut last = None;
        let mut image = || {
            let image = self.image()?;
            if last.replace(image.generation) >= Some(image.generation) {
                return Err(Malformed { what: "generations out of order", at: self.at });
            }
            Ok(image)
        };
        let images = (0..images).map(|_| image()).collect::<Result<_, _>>()?;
        Ok(Manifest { cut, form, span_secs, images, id_keys })
    }

    fn id_keys(&mut self, count: u8) -> Result<Vec<IdKey>, Malformed> {
        if usize::from(count) > ID_KEYS_MAX {
            return Err(Malformed { what: "more than 2 keys", at: self.at });
        }
        (0..count).map(|_| self.take()).collect()
    }

    /// The form of the byte that was taken last.
    fn form(&self, byte: u8) -> Result<Form, Malformed> {
        match byte {
            0 => Ok(Form::Fuse),
            1 => Ok(Form::Pages),
            _ => Err(self.wrong::<1>("no such form")),
        }
    }

    fn image(&mut self) -> Result<Image, Malformed> {
        let (generation, checksum, bytes) = (self.u32()?, self.u64()?, self.u32()?);
        if bytes == 0 || bytes > IMAGE_BYTES_MAX {
            return Err(self.wrong::<4>("not 1 to 268435456 bytes"));
        }
        Ok(Image { generation, checksum, bytes })
    }

    fn delta(&mut self, position: &Position) -> Result<Delta, Malformed> {
        let number = match self.u32()? {
            IN_NO_ENTRY => Some(UNNUMBERED),
            before => position.number.checked_sub(before.into()),
        };
        let number = number.ok_or_else(|| self.wrong::<4>("an entry before the first"))?;
        let id = Id(self.take()?);
        Ok(Delta { number, id, before_secs: self.before()?, age_ms: self.u32()? })
    }

    fn before(&mut self) -> Result<u64, Malformed> {
        self.take::<BEFORE_BYTES>().map(|bytes| whole(&bytes))
    }

    fn offset(&mut self) -> Result<u32, Malformed> {
        let offset = self.u32()?;
        if offset >= IMAGE_BYTES_MAX || !(offset as usize).is_multiple_of(CHUNK_BYTES) {
            return Err(self.wrong::<4>("not where a piece begins"));
        }
        Ok(offset)
    }
}
