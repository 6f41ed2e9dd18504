//! Asks for leases and what they bring, as bytes: messages of their own kind.
//!
//! ```text
//! ask    1 version   1 'L'   1 wants (1..=64)    8 holder   8 seq     then per want, 121 bytes:
//!        16 key   8 limit   1 algorithm (1..=2)   4 count   8 period (ns)   4 burst   4 reserve
//!        4 era   4 version   3 × (4 epoch   4 spent   4 returned)   4 known   4 owed
//!        4 units   4 soon   4 least   8 rate (thousandths a second)   4 tried
//! reply  1 version   1 'G'   1 grants (1..=64)   8 seq     then per grant, 9 or 53 bytes:
//!        1 outcome
//!        0 answered: 4 units   4 soon   4 era   4 epoch   4 version   8 wait (ns)
//!                    8 horizon (ns)   4 remaining   8 rate of all (thousandths a second)
//!                    4 share (ppm)
//!        1 away:     8 for how long by now (ns)
//! ```

use super::{HEAD_BYTES, LEASE_ASK, LEASE_REPLY, Malformed, Reader, VERSION, code_of, short_len};
use crate::ask::{LimitTag, SHARE_WHOLE_PPM};
use crate::key::Key;
use crate::lease::{
    Ask, Away, Grant, HORIZON_MAX, HolderId, Reply, SETTLED_MAX, Settled, Terms, WANTS_MAX, Want,
};
use crate::time::Span;
use alloc::vec::Vec;

/// The longest ask for leases.
pub const LEASE_ASK_BYTES_MAX: usize = HEAD_BYTES + 16 + WANTS_MAX * WANT_BYTES;

/// The longest reply to one.
pub const LEASE_REPLY_BYTES_MAX: usize = HEAD_BYTES + 8 + WANTS_MAX * GRANT_BYTES_MAX;

const WANT_BYTES: usize = 16 + 8 + 17 + 3 * 4 + SETTLED_MAX * 12 + 5 * 4 + 8 + 4;
const GRANT_BYTES_MAX: usize = 1 + 5 * 4 + 2 * 8 + 4 + 8 + 4;

const WRONG_COUNT: &str = "not 1 to 64 wants";

/// Encodes an ask for leases. One outside the bounds of [`Ask`] gives bytes that nobody
/// will decode.
pub fn encode_lease_ask(ask: &Ask) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + 16 + ask.wants.len() * WANT_BYTES);
    bytes.extend([VERSION, LEASE_ASK, short_len(ask.wants.len())]);
    bytes.extend(ask.holder.0.to_le_bytes());
    bytes.extend(ask.seq.to_le_bytes());
    for want in &ask.wants {
        put_want(&mut bytes, want);
    }
    bytes
}

/// Decodes an ask for leases.
///
/// # Errors
///
/// [`Malformed`] unless [`encode_lease_ask`] could have made these bytes.
pub fn decode_lease_ask(bytes: &[u8]) -> Result<Ask, Malformed> {
    let mut reader = Reader { bytes, at: 0 };
    let count = reader.head(LEASE_ASK, WANTS_MAX, WRONG_COUNT)?;
    let (holder, seq) = (HolderId(reader.u64()?), reader.u64()?);
    let mut wants: Vec<Want> = Vec::with_capacity(count);
    for _ in 0..count {
        let at = reader.at;
        let want = reader.want()?;
        if wants.iter().any(|earlier| earlier.key == want.key) {
            return Err(Malformed { what: "the same key twice", at });
        }
        wants.push(want);
    }
    reader.end()?;
    Ok(Ask { holder, seq, wants })
}

/// Encodes a reply to an ask for leases. One outside the bounds of [`Reply`] gives bytes
/// that nobody will decode.
pub fn encode_lease_reply(reply: &Reply) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + 8 + reply.grants.len() * GRANT_BYTES_MAX);
    bytes.extend([VERSION, LEASE_REPLY, short_len(reply.grants.len())]);
    bytes.extend(reply.seq.to_le_bytes());
    for grant in &reply.grants {
        match grant {
            Ok(grant) => {
                bytes.push(0);
                put_grant(&mut bytes, grant);
            }
            Err(Away(span)) => {
                bytes.push(1);
                bytes.extend(span.0.to_le_bytes());
            }
        }
    }
    bytes
}

/// Decodes a reply to an ask for leases.
///
/// # Errors
///
/// [`Malformed`] unless [`encode_lease_reply`] could have made these bytes.
pub fn decode_lease_reply(bytes: &[u8]) -> Result<Reply, Malformed> {
    let mut reader = Reader { bytes, at: 0 };
    let count = reader.head(LEASE_REPLY, WANTS_MAX, WRONG_COUNT)?;
    let seq = reader.u64()?;
    let grants = (0..count).map(|_| reader.grant_or_away()).collect::<Result<_, _>>()?;
    reader.end()?;
    Ok(Reply { seq, grants })
}

fn put_want(bytes: &mut Vec<u8>, want: &Want) {
    let quota = &want.quota;
    bytes.extend(want.key.0);
    bytes.extend(want.limit.0.to_le_bytes());
    bytes.push(code_of(quota.algorithm()));
    bytes.extend(quota.count().to_le_bytes());
    bytes.extend(quota.period().0.to_le_bytes());
    put_all(bytes, &[quota.burst(), want.reserve, want.era, want.version]);
    for Settled { epoch, spent, returned } in &want.settled {
        put_all(bytes, &[*epoch, *spent, *returned]);
    }
    put_all(bytes, &[want.known, want.owed, want.units, want.soon, want.least]);
    bytes.extend(want.rate_milli.to_le_bytes());
    bytes.extend(want.tried.to_le_bytes());
}

fn put_grant(bytes: &mut Vec<u8>, grant: &Grant) {
    let Grant { units, soon, era, epoch, version, remaining, share_ppm, .. } = grant;
    let Grant { wait, horizon, rate_milli, .. } = grant;
    put_all(bytes, &[*units, *soon, *era, *epoch, *version]);
    bytes.extend(wait.0.to_le_bytes());
    bytes.extend(horizon.0.to_le_bytes());
    bytes.extend(remaining.to_le_bytes());
    bytes.extend(rate_milli.to_le_bytes());
    bytes.extend(share_ppm.to_le_bytes());
}

fn put_all(bytes: &mut Vec<u8>, numbers: &[u32]) {
    numbers.iter().for_each(|number| bytes.extend(number.to_le_bytes()));
}

impl Reader<'_> {
    fn want(&mut self) -> Result<Want, Malformed> {
        let key = Key(self.take()?);
        let limit = LimitTag(self.u64()?);
        let at = self.at;
        let quota = self.quota()?;
        let reserve = self.u32()?;
        let terms = Terms::new(quota, Span::ZERO, reserve);
        let terms = terms.ok_or(Malformed { what: "a quota that is not leased", at })?;
        if terms.reserve() != reserve {
            return Err(self.wrong::<4>("a reserve that is not made"));
        }
        let (era, version) = (self.u32()?, self.u32()?);
        let mut settled = [Settled::default(); SETTLED_MAX];
        for settled in &mut settled {
            let (epoch, spent, returned) = (self.u32()?, self.u32()?, self.u32()?);
            *settled = Settled { epoch, spent, returned };
        }
        let (known, owed, units) = (self.u32()?, self.u32()?, self.u32()?);
        let (soon, least) = (self.u32()?, self.u32()?);
        if soon > units || least > units {
            return Err(self.wrong::<8>("more than all that is wanted"));
        }
        let (rate_milli, tried) = (self.u64()?, self.u32()?);
        Ok(Want {
            key,
            limit,
            quota,
            reserve,
            era,
            version,
            settled,
            known,
            owed,
            units,
            soon,
            least,
            rate_milli,
            tried,
        })
    }

    fn grant_or_away(&mut self) -> Result<Result<Grant, Away>, Malformed> {
        match self.take()? {
            [0] => self.grant().map(Ok),
            [1] => Ok(Err(Away(Span(self.u64()?)))),
            [_] => Err(self.wrong::<1>("no such outcome")),
        }
    }

    fn grant(&mut self) -> Result<Grant, Malformed> {
        let (units, soon) = (self.u32()?, self.u32()?);
        if soon > units {
            return Err(self.wrong::<4>("more than all that is granted"));
        }
        let (era, epoch, version) = (self.u32()?, self.u32()?, self.u32()?);
        let (wait, horizon) = (Span(self.u64()?), Span(self.u64()?));
        if horizon > HORIZON_MAX {
            return Err(self.wrong::<8>("a horizon beyond 400 ms"));
        }
        let (remaining, rate_milli, share_ppm) = (self.u32()?, self.u64()?, self.u32()?);
        if share_ppm > SHARE_WHOLE_PPM {
            return Err(self.wrong::<4>("a share of more than the whole"));
        }
        Ok(Grant {
            units,
            soon,
            era,
            epoch,
            version,
            wait,
            horizon,
            remaining,
            rate_milli,
            share_ppm,
        })
    }
}
