//! Asks and replies as bytes, between filter and host.
//!
//! Little endian, fixed fields, a version in front. Spans cross the wire, never dates:
//! no two clocks are ever compared. Whatever arrives is either a value that could have
//! been sent or [`Malformed`]; decoding never panics, and never allocates more than its
//! bounds.
//!
//! ```text
//! ask    1 version   1 'A'   1 items (1..=16)     then per item, 49 bytes:
//!        16 key   8 limit   1 algorithm (1..=3)   4 count   8 period (ns)   4 burst   4 cost
//!        4 owed
//! reply  1 version   1 'R'   1 answers (1..=16)   then per answer, 5 to 25 bytes:
//!        1 outcome   4 share (ppm)
//!        0 admitted: 4 remaining   8 reset (ns)
//!        1 wait:     8 wait (ns)   4 remaining   8 reset (ns)
//!        2 never
//! ```
//!
//! Asks for leases are messages of kinds of their own: see [`encode_lease_ask`]. So is what is
//! said of revocations: see [`revoke`]; and of plugins: see [`plugin`].
//!
//! All are bodies of HTTP messages: an ask of a `POST`, a reply of its 200. A host that is
//! there and has no answer says so with 503 and a line of text; [`MARK`] tells what the host
//! said from what a proxy on the way made up.

use crate::ask::{Answer, Ask, ITEMS_MAX, Item, LimitTag, Reply, SHARE_WHOLE_PPM};
use crate::key::Key;
use crate::limit::{Algorithm, Quota, Refused, Standing};
use crate::time::Span;
use alloc::vec::Vec;
use core::fmt;

mod lease;
pub mod plugin;
pub mod revoke;

pub use lease::{
    LEASE_ASK_BYTES_MAX, LEASE_REPLY_BYTES_MAX, decode_lease_ask, decode_lease_reply,
    encode_lease_ask, encode_lease_reply,
};

/// The version of the format. Bytes of another are not read.
pub const VERSION: u8 = 2;

/// The header that is in every response of a host, and in none that a proxy on the way makes.
pub const MARK: &str = "x-tidegate";

/// The `content-type` of asks and replies.
pub const ASK_TYPE: &str = "application/x-tidegate";

/// The header of an ask that names the asking proxy.
pub const PROXY: &str = "x-tidegate-proxy";

/// The header of an ask that says how long its sender waits, in milliseconds, 1 or more. After
/// that an answer is of no use, and the sender takes the host for unreachable: one whose store
/// is silent says so before.
pub const WAITS_MS: &str = "x-tidegate-waits-ms";

/// The header of a 503 that says how long the store of these budgets has given no answers by
/// now, in milliseconds. Without it the host has another reason.
pub const AWAY_MS: &str = "x-tidegate-away-ms";

/// A request's own names for itself, which its asks carry along if [`may_go_along`] says so.
pub const FORWARDED: [&str; 2] = ["x-request-id", "traceparent"];

/// Whether such a name goes on: only text that is plainly harmless does; ids are.
pub fn may_go_along(value: &[u8]) -> bool {
    value.len() <= 256 && value.iter().all(u8::is_ascii_graphic)
}

/// What an [`AWAY_MS`] says.
pub fn away(value: &[u8]) -> Option<Span> {
    let millis: u64 = core::str::from_utf8(value).ok()?.parse().ok()?;
    Some(Span(millis.saturating_mul(1_000_000)))
}

/// The longest ask.
pub const ASK_BYTES_MAX: usize = HEAD_BYTES + ITEMS_MAX * ITEM_BYTES;

/// The longest reply.
pub const REPLY_BYTES_MAX: usize = HEAD_BYTES + ITEMS_MAX * ANSWER_BYTES_MAX;

const HEAD_BYTES: usize = 3;
const ITEM_BYTES: usize = 16 + 8 + 1 + 4 + 8 + 4 + 4 + 4;
const ANSWER_BYTES_MAX: usize = 1 + 4 + 8 + 4 + 8;

const ASK: u8 = b'A';
const REPLY: u8 = b'R';
const LEASE_ASK: u8 = b'L';
const LEASE_REPLY: u8 = b'G';
const NEWS_ASK: u8 = b'N';
const NEWS: u8 = b'M';
const CHUNK_ASK: u8 = b'C';
const CHUNK: u8 = b'K';
const CHECK: u8 = b'X';
const CHECKED: u8 = b'Y';
const RESOLVE: u8 = b'P';
const RESOLVED: u8 = b'Q';

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To be read by [`decode_ask`].
    Ask,
    /// To be read by [`decode_reply`].
    Reply,
    /// To be read by [`decode_lease_ask`].
    LeaseAsk,
    /// To be read by [`decode_lease_reply`].
    LeaseReply,
    /// To be read by [`revoke::decode_news_ask`].
    NewsAsk,
    /// To be read by [`revoke::decode_news`].
    News,
    /// To be read by [`revoke::decode_chunk_ask`].
    ChunkAsk,
    /// To be read by [`revoke::decode_chunk`].
    Chunk,
    /// To be read by [`revoke::decode_check`].
    Check,
    /// To be read by [`revoke::decode_checked`].
    Checked,
    /// To be read by [`plugin::decode_resolve`].
    Resolve,
    /// To be read by [`plugin::decode_resolved`].
    Resolved,
}

/// Bytes that no one of this version has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// What is wrong, or what was wanted.
    pub what: &'static str,
    /// The offset of the field, in bytes.
    pub at: usize,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

impl core::error::Error for Malformed {}

/// Which message these bytes are meant to be, by what every message begins with: they may still
/// be malformed. `None` if they begin as none of this version.
pub fn kind(bytes: &[u8]) -> Option<Kind> {
    let [VERSION, kind, ..] = *bytes else { return None };
    Some(match kind {
        ASK => Kind::Ask,
        REPLY => Kind::Reply,
        LEASE_ASK => Kind::LeaseAsk,
        LEASE_REPLY => Kind::LeaseReply,
        NEWS_ASK => Kind::NewsAsk,
        NEWS => Kind::News,
        CHUNK_ASK => Kind::ChunkAsk,
        CHUNK => Kind::Chunk,
        CHECK => Kind::Check,
        CHECKED => Kind::Checked,
        RESOLVE => Kind::Resolve,
        RESOLVED => Kind::Resolved,
        _ => return None,
    })
}

/// Encodes an ask. One outside the bounds of [`Ask`] gives bytes that nobody will decode.
pub fn encode_ask(ask: &Ask) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + ask.items.len() * ITEM_BYTES);
    bytes.extend([VERSION, ASK, short_len(ask.items.len())]);
    for item in &ask.items {
        let quota = &item.quota;
        bytes.extend(item.key.0);
        bytes.extend(item.limit.0.to_le_bytes());
        bytes.push(code_of(quota.algorithm()));
        bytes.extend(quota.count().to_le_bytes());
        bytes.extend(quota.period().0.to_le_bytes());
        bytes.extend(quota.burst().to_le_bytes());
        bytes.extend(item.cost.to_le_bytes());
        bytes.extend(item.owed.to_le_bytes());
    }
    bytes
}

/// Decodes an ask.
///
/// # Errors
///
/// [`Malformed`] unless [`encode_ask`] could have made these bytes.
pub fn decode_ask(bytes: &[u8]) -> Result<Ask, Malformed> {
    let mut reader = Reader { bytes, at: 0 };
    let count = reader.head(ASK, ITEMS_MAX, "not 1 to 16 items")?;
    let mut items: Vec<Item> = Vec::with_capacity(count);
    for _ in 0..count {
        let at = reader.at;
        let item = reader.item()?;
        if items.iter().any(|earlier| earlier.key == item.key) {
            return Err(Malformed { what: "the same key twice", at });
        }
        items.push(item);
    }
    reader.end()?;
    Ok(Ask { items })
}

/// Encodes a reply. One outside the bounds of [`Reply`] gives bytes that nobody will decode.
pub fn encode_reply(reply: &Reply) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + reply.answers.len() * ANSWER_BYTES_MAX);
    bytes.extend([VERSION, REPLY, short_len(reply.answers.len())]);
    for answer in &reply.answers {
        let (outcome, wait, standing) = match &answer.outcome {
            Ok(standing) => (0, None, Some(standing)),
            Err(Refused::Wait { wait, standing }) => (1, Some(wait), Some(standing)),
            Err(Refused::Never) => (2, None, None),
        };
        bytes.push(outcome);
        bytes.extend(answer.share_ppm.to_le_bytes());
        if let Some(wait) = wait {
            bytes.extend(wait.0.to_le_bytes());
        }
        if let Some(standing) = standing {
            bytes.extend(standing.remaining.to_le_bytes());
            bytes.extend(standing.reset.0.to_le_bytes());
        }
    }
    bytes
}

/// Decodes a reply.
///
/// # Errors
///
/// [`Malformed`] unless [`encode_reply`] could have made these bytes.
pub fn decode_reply(bytes: &[u8]) -> Result<Reply, Malformed> {
    let mut reader = Reader { bytes, at: 0 };
    let count = reader.head(REPLY, ITEMS_MAX, "not 1 to 16 items")?;
    let answers = (0..count).map(|_| reader.answer()).collect::<Result<_, _>>()?;
    reader.end()?;
    Ok(Reply { answers })
}

/// A length that does not fit is beyond the bounds of both messages anyway.
fn short_len(len: usize) -> u8 {
    u8::try_from(len).unwrap_or(u8::MAX)
}

fn code_of(algorithm: Algorithm) -> u8 {
    match algorithm {
        Algorithm::TokenBucket => 1,
        Algorithm::SlidingWindow => 2,
        Algorithm::SlidingCounter => 3,
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    /// Reads what every message begins with.
    fn kind(&mut self, kind: u8) -> Result<(), Malformed> {
        let [version] = self.take()?;
        if version != VERSION {
            return Err(self.wrong::<1>("a version other than 2"));
        }
        if self.take()? != [kind] {
            return Err(self.wrong::<1>("another kind of message"));
        }
        Ok(())
    }

    /// The same of a message of parts; returns how many follow.
    fn head(&mut self, kind: u8, most: usize, or_else: &'static str) -> Result<usize, Malformed> {
        self.kind(kind)?;
        let [count] = self.take()?;
        if count == 0 || usize::from(count) > most {
            return Err(self.wrong::<1>(or_else));
        }
        Ok(count.into())
    }

    fn item(&mut self) -> Result<Item, Malformed> {
        let key = Key(self.take()?);
        let limit = LimitTag(self.u64()?);
        let quota = self.quota()?;
        Ok(Item { key, limit, quota, cost: self.u32()?, owed: self.u32()? })
    }

    fn quota(&mut self) -> Result<Quota, Malformed> {
        let at = self.at;
        let algorithm = match self.take()? {
            [1] => Algorithm::TokenBucket,
            [2] => Algorithm::SlidingWindow,
            [3] => Algorithm::SlidingCounter,
            [_] => return Err(self.wrong::<1>("no such algorithm")),
        };
        let (count, period, burst) = (self.u32()?, Span(self.u64()?), self.u32()?);
        match Quota::new(algorithm, count, period, burst) {
            Ok(quota) if quota.burst() == burst => Ok(quota),
            _ => Err(Malformed { what: "a quota that cannot be", at }),
        }
    }

    fn answer(&mut self) -> Result<Answer, Malformed> {
        let [outcome] = self.take()?;
        if outcome > 2 {
            return Err(self.wrong::<1>("no such outcome"));
        }
        let share_ppm = self.u32()?;
        if share_ppm > SHARE_WHOLE_PPM {
            return Err(self.wrong::<4>("a share of more than the whole"));
        }
        let outcome = match outcome {
            0 => Ok(self.standing()?),
            1 => Err(Refused::Wait { wait: Span(self.u64()?), standing: self.standing()? }),
            _ => Err(Refused::Never),
        };
        Ok(Answer { outcome, share_ppm })
    }

    fn standing(&mut self) -> Result<Standing, Malformed> {
        Ok(Standing { remaining: self.u32()?, reset: Span(self.u64()?) })
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.take().map(u64::from_le_bytes)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let field = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk());
        let field = field.ok_or(Malformed { what: "cut short", at: self.at })?;
        self.at += N;
        Ok(*field)
    }

    fn end(&self) -> Result<(), Malformed> {
        if self.at == self.bytes.len() {
            return Ok(());
        }
        Err(Malformed { what: "bytes after the end", at: self.at })
    }

    /// Something is wrong with the field of `N` bytes just read.
    fn wrong<const N: usize>(&self, what: &'static str) -> Malformed {
        Malformed { what, at: self.at - N }
    }
}
