//! How much is asked of the whole fleet: a host tells the others, through Redis.
//!
//! One host hears only what it is asked itself, which where each proxy has a host of its own
//! says nothing of the others. So each host tells every few seconds how much of each limit it
//! was asked for lately, and by which proxies, and hears how much it is in all of them: one
//! call of one script (`scripts/census.lua`) for every [`RECORDS_MAX`] limits and proxies. On a
//! cluster all of it is in one slot.
//!
//! It goes past the lane: it is never in the way of asks, nor counted with them, and if it
//! fails the next one comes soon.

use crate::error::Error;
use crate::link::{Link, Live};
use redis::aio::ConnectionLike;
use redis::{Cmd, Pipeline, RedisError, Value};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tidegate_core::ask::LimitTag;

const SCRIPT: &str = include_str!("../scripts/census.lua");

static SCRIPT_SHA: LazyLock<String> =
    LazyLock::new(|| sha1_smol::Sha1::from(SCRIPT).digest().to_string());

/// All names share it, and so their slot.
pub(crate) const HASH_TAG: &str = "census";

/// Limits and proxies in one call: it takes the server no longer than a batch of asks does.
const RECORDS_MAX: usize = 256;

/// Numbers in a reply, before the sums.
const FIELDS: usize = 4;

/// What one host tells.
#[derive(Clone, Debug)]
pub struct Census {
    /// By chance, for as long as the host runs.
    pub host: u64,
    /// After this long, demand counts half. The same in all hosts.
    pub half_life: Duration,
    /// How many proxies it speaks for: of one that asks several hosts, each has a part.
    pub proxies: f64,
    /// Limits and proxies, with the demand that this host knows of.
    pub records: Vec<Record>,
}

/// The demand for one limit, or of one proxy, at one host.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// Which.
    pub of: Counted,
    /// Units asked for lately, each counting half after every half-life.
    pub units: f64,
    /// `units` of the last census in which the host told of it; 0 if there was none.
    pub told: f64,
}

/// What demand is counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Counted {
    /// Everything that is asked for of a limit.
    Limit(LimitTag),
    /// Everything that a proxy asks for; a hash of its name, the same in all hosts.
    Proxy(u64),
}

/// What is known of all hosts together.
#[derive(Clone, Debug, PartialEq)]
pub struct Fleet {
    /// For how long hosts have been telling this server. Those that have told another before
    /// may not all have come yet.
    pub age: Duration,
    /// Hosts that have told within the last 60 s.
    pub hosts: u32,
    /// Proxies of all of them.
    pub proxies: f64,
    /// For each record, in their order, the units at all hosts. None at all if there are more
    /// hosts than are counted (1,024).
    pub units: Vec<f64>,
}

/// One reply.
struct Told {
    since_us: f64,
    fleet: Fleet,
}

/// Tells, and hears.
pub(crate) async fn take(link: &Link, own: &Census) -> Result<Fleet, Error> {
    let (first, more) = own.records.split_at(own.records.len().min(RECORDS_MAX));
    let Told { since_us, mut fleet } = call(link, own, first, None).await?;
    if fleet.units.len() == first.len() {
        for records in more.chunks(RECORDS_MAX) {
            fleet.units.extend(call(link, own, records, Some(since_us)).await?.fleet.units);
        }
    }
    Ok(fleet)
}

async fn call(
    link: &Link,
    own: &Census,
    records: &[Record],
    since_us: Option<f64>,
) -> Result<Told, Error> {
    if let Some(why) = link.breaker.why() {
        return Err(why);
    }
    let live = link.live().ok_or(Error::Away)?;
    let command = command(own, records, since_us);
    let mut answer = round_trip(&live, &command, false).await;
    if matches!(&answer, Err(error) if error.is_no_script()) {
        answer = round_trip(&live, &command, true).await;
    }
    if let Err(error @ Error::Refused(refusal, _)) = &answer
        && refusal.is_redirect()
    {
        // Whoever looks where slots are looks sooner.
        link.note(&live, Err(error));
    }
    told(&answer?, records.len())
}

/// No later than the connection's deadline for replies.
async fn round_trip(live: &Arc<Live>, command: &Cmd, load: bool) -> Result<Value, Error> {
    let mut pipeline = Pipeline::new();
    if load {
        pipeline.cmd("SCRIPT").arg("LOAD").arg(SCRIPT);
    }
    pipeline.add_command(command.clone());
    let sent = live.connection().req_packed_commands(&pipeline, 0, pipeline.len()).await;
    match sent.map_err(Error::of)?.pop().ok_or(Error::Garbled("no reply"))? {
        Value::ServerError(error) => Err(Error::of(RedisError::from(error))),
        value => Ok(value),
    }
}

fn command(own: &Census, records: &[Record], since_us: Option<f64>) -> Cmd {
    let mut call = redis::cmd("EVALSHA");
    call.arg(SCRIPT_SHA.as_str()).arg(records.len() + 1).arg(format!("tidegate:{{{HASH_TAG}}}"));
    for record in records {
        call.arg(record.of.key_name());
    }
    let mut head = own.host.to_le_bytes().to_vec();
    let weight = if since_us.is_none() { own.proxies } else { -1.0 };
    pack(&mut head, &[own.half_life.as_secs_f64() * 1e6, since_us.unwrap_or(-1.0), weight]);
    call.arg(head);
    for record in records {
        let mut packed = Vec::with_capacity(16);
        pack(&mut packed, &[record.units, record.told]);
        call.arg(packed);
    }
    call
}

fn told(reply: &Value, records: usize) -> Result<Told, Error> {
    let Value::BulkString(bytes) = reply else { return Err(Error::Garbled("no string")) };
    let (numbers, rest) = bytes.as_chunks::<8>();
    let numbers: Vec<f64> = numbers.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
    let Some((&[since_us, age_us, hosts, proxies], units)) = numbers.split_first_chunk::<FIELDS>()
    else {
        return Err(Error::Garbled("too short"));
    };
    let is_whole = rest.is_empty() && (units.is_empty() || units.len() == records);
    // A time that no clock of a server shows is no time either.
    let age = Duration::try_from_secs_f64(age_us / 1e6);
    match age {
        Ok(age) if is_whole && numbers.iter().all(|number| number.is_finite()) => {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1,024")]
            let hosts = hosts as u32;
            let fleet = Fleet { age, hosts, proxies, units: units.to_vec() };
            Ok(Told { since_us, fleet })
        }
        _ => Err(Error::Garbled("a number out of range")),
    }
}

fn pack(to: &mut Vec<u8>, numbers: &[f64]) {
    to.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
}

impl Counted {
    fn key_name(self) -> String {
        match self {
            Self::Limit(LimitTag(tag)) => format!("tidegate:{{{HASH_TAG}}}:limit:{tag:016x}"),
            Self::Proxy(name) => format!("tidegate:{{{HASH_TAG}}}:proxy:{name:016x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strange_replies_are_said_to_be_so() {
        let packed = |numbers: &[f64]| {
            let mut bytes = Vec::new();
            pack(&mut bytes, numbers);
            Value::BulkString(bytes)
        };
        for strange in [
            Value::Nil,
            Value::BulkString(Vec::new()),
            Value::BulkString(vec![0; 33]),
            packed(&[0.0, 0.0, 1.0]),
            packed(&[0.0, -1.0, 1.0, 1.0, 5.0]),
            packed(&[0.0, 0.0, 1.0, 1.0, f64::NAN]),
            packed(&[0.0, 0.0, 1.0, 1.0, 5.0, 5.0]),
        ] {
            assert!(matches!(told(&strange, 1), Err(Error::Garbled(_))), "{strange:?}");
        }
        let fleet = told(&packed(&[0.0, 2e6, 3.0, 2.5, 5.0]), 1).unwrap().fleet;
        let age = Duration::from_secs(2);
        assert_eq!(fleet, Fleet { age, hosts: 3, proxies: 2.5, units: vec![5.0] });
        assert!(told(&packed(&[-1.0, 0.0, 1024.0, 9.0]), 1).unwrap().fleet.units.is_empty());
    }
}
