//! An ask as calls of `take.lua`, and what came back as a reply.

use crate::call::{KEY_NAME_BYTES, Script, algorithm_code, key_name};
use crate::error::Error;
use redis::{Cmd, Value};
use std::sync::Arc;
use tidegate_core::ask::{Answer, Ask, Item, Reply};
use tidegate_core::limit::{Quota, Refused, Standing, Tick};
use tidegate_core::time::Span;

/// Integers in the reply, per item.
const FIELDS: usize = 4;

/// Bytes of one packed item.
const ITEM_BYTES: usize = 1 + 5 * 4 + 3 * 8;

/// Words of a call that are not about one item: `EVALSHA`, which script, how many keys, by which
/// clock, and a receipt.
const HEAD_WORDS_MAX: usize = 5;

/// Bytes of those.
const HEAD_BYTES_MAX: usize = "EVALSHA".len() + 40 + 2 + 20 + 16;

/// What is before the limit in a key's name.
const NAMESPACE: &str = "tidegate:";

const NAME_BYTES: usize = KEY_NAME_BYTES + NAMESPACE.len();

/// One call of the script.
#[derive(Clone)]
pub(crate) struct Taking {
    ask: Arc<Ask>,
    /// Which item, or all.
    item: Option<usize>,
    /// By which clock; 0 is the server's own.
    now_us: u64,
    kind: Kind,
}

/// What a call is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// To take, all or nothing.
    Take,
    /// To take what may have to be given back.
    TakeWithReceipt,
    /// To give back what was taken.
    GiveBack(Receipt),
}

/// By what a charge is found again, in terms of the state that was charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    /// When: the bucket's last tick, the window's sub-counter, the counter's window.
    mark: u64,
    /// The bucket's backlog before.
    before: u64,
}

impl Taking {
    /// About all items of an ask at once: on a cluster they must have one slot.
    pub(crate) const fn all(ask: Arc<Ask>, now_us: u64, kind: Kind) -> Self {
        Self { ask, item: None, now_us, kind }
    }

    /// About one of them.
    pub(crate) const fn one(ask: Arc<Ask>, item: usize, now_us: u64, kind: Kind) -> Self {
        Self { ask, item: Some(item), now_us, kind }
    }

    /// What is asked for.
    pub(crate) fn items(&self) -> &[Item] {
        match self.item {
            None => &self.ask.items,
            Some(item) => self.ask.items.get(item..=item).unwrap_or_default(),
        }
    }

    /// What is sent.
    pub(crate) fn command(&self) -> Cmd {
        let items = self.items();
        let count = items.len();
        // Room for all of it at once: a command is made for every ask.
        let bytes = HEAD_BYTES_MAX + count * (NAME_BYTES + ITEM_BYTES);
        let mut call = Cmd::with_capacity(HEAD_WORDS_MAX + 2 * count, bytes);
        call.arg("EVALSHA").arg(Script::Take.sha()).arg(count);
        for item in items {
            call.arg(&key_name::<NAME_BYTES>(NAMESPACE, item.limit, item.key)[..]);
        }
        call.arg(self.now_us);
        // Whoever gives back what was taken has told what is owed already.
        let is_told = matches!(self.kind, Kind::GiveBack(_));
        for item in items {
            call.arg(&pack(item, if is_told { 0 } else { item.owed })[..]);
        }
        match self.kind {
            Kind::Take => {}
            Kind::TakeWithReceipt => {
                call.arg("");
            }
            Kind::GiveBack(receipt) => {
                call.arg(&receipt.pack()[..]);
            }
        }
        call
    }
}

impl Receipt {
    /// Packed as `'<dd'`.
    #[expect(clippy::cast_precision_loss, reason = "below 2^53, as all quantities")]
    fn pack(self) -> [u8; 16] {
        let mut packed = [0; 16];
        packed[..8].copy_from_slice(&(self.mark as f64).to_le_bytes());
        packed[8..].copy_from_slice(&(self.before as f64).to_le_bytes());
        packed
    }
}

/// The reply to `items` that `value` says.
pub(crate) fn reply(items: &[Item], value: &Value) -> Result<Reply, Error> {
    let Value::Array(fields) = value else { return Err(Error::Garbled("no array")) };
    if fields.len() != items.len() * FIELDS {
        return Err(Error::Garbled("another number of items"));
    }
    let answers = items.iter().zip(fields.chunks(FIELDS));
    let answers = answers.map(|(item, fields)| answer(&item.quota, fields)).collect::<Option<_>>();
    Ok(Reply { answers: answers.ok_or(Error::Garbled("a number out of range"))? })
}

/// The answer to one item, and by what to give it back if it was charged.
pub(crate) fn receipted(item: &Item, value: &Value) -> Result<(Answer, Option<Receipt>), Error> {
    let Value::Array(fields) = value else { return Err(Error::Garbled("no array")) };
    let (fields, receipt) = fields.split_at_checked(FIELDS).unwrap_or_default();
    let answer = answer(&item.quota, fields).ok_or(Error::Garbled("a number out of range"))?;
    if answer.outcome.is_err() {
        return Ok((answer, None));
    }
    let read = || Some(Receipt { mark: number(receipt, 0)?, before: number(receipt, 1)? });
    Ok((answer, Some(read().ok_or(Error::Garbled("no receipt"))?)))
}

fn answer(quota: &Quota, fields: &[Value]) -> Option<Answer> {
    let number = |at| number(fields, at);
    let span = |ticks: u64| Span(ticks.saturating_mul(quota.tick().nanos()));
    let standing = Standing { remaining: u32::try_from(number(1)?).ok()?, reset: span(number(2)?) };
    let outcome = match number(0)? {
        0 => Ok(standing),
        1 => Err(Refused::Wait { wait: span(number(3)?), standing }),
        2 => Err(Refused::Never),
        _ => return None,
    };
    Some(Answer { outcome, share_ppm: 0 })
}

fn number(fields: &[Value], at: usize) -> Option<u64> {
    match fields.get(at) {
        Some(Value::Int(number)) => u64::try_from(*number).ok(),
        _ => None,
    }
}

/// Packed as `'<BI4I4I4I4I4ddd'`. Every quantity of a quota is below 2^53: a double holds it.
#[expect(clippy::cast_precision_loss, reason = "below 2^53, see EXACT_MAX")]
fn pack(item: &Item, owed: u32) -> [u8; ITEM_BYTES] {
    let quota = &item.quota;
    let tick_us = match quota.tick() {
        Tick::Micro => 1,
        Tick::Milli => 1_000,
        Tick::Second => 1_000_000,
    };
    let mut packed = [0; ITEM_BYTES];
    packed[0] = algorithm_code(quota.algorithm());
    let (counts, quantities) = packed[1..].split_at_mut(5 * 4);
    let values = [tick_us, item.cost, quota.count(), quota.burst(), owed];
    for (place, value) in counts.chunks_exact_mut(4).zip(values) {
        place.copy_from_slice(&u32::to_le_bytes(value));
    }
    let values = [quota.period_ticks(), quota.cell(), quota.drain()];
    for (place, value) in quantities.chunks_exact_mut(8).zip(values) {
        place.copy_from_slice(&(value as f64).to_le_bytes());
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_core::ask::LimitTag;
    use tidegate_core::key::Key;
    use tidegate_core::limit::Algorithm;

    #[test]
    fn strange_replies_are_said_to_be_so() {
        let quota = Quota::new(Algorithm::TokenBucket, 1, Span::from_secs(1), 1).unwrap();
        let item = Item { key: Key([0; 16]), limit: LimitTag(1), quota, cost: 1, owed: 0 };
        let items = [item];
        let array =
            |numbers: &[i64]| Value::Array(numbers.iter().map(|n| Value::Int(*n)).collect());
        for strange in [
            Value::Nil,
            array(&[]),
            array(&[0, 1, 0]),
            array(&[3, 0, 0, 0]),
            array(&[0, -1, 0, 0]),
            array(&[0, 1 << 32, 0, 0]),
            Value::Array(vec![Value::Nil, Value::Int(0), Value::Int(0), Value::Int(0)]),
        ] {
            assert!(matches!(reply(&items, &strange), Err(Error::Garbled(_))), "{strange:?}");
        }
        assert!(reply(&items, &array(&[0, 0, 1_000_000, 0])).unwrap().admits());
    }
}
