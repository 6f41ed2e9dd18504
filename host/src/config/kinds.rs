//! What single settings are made of: counts, times and addresses, each with its bounds in
//! its type, and each naming what it wants when it finds something else.

use serde::Deserialize;
use serde::de::{Deserializer, Error, Unexpected, Visitor};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// A count from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count<const MIN: u32, const MAX: u32>(pub(crate) u32);

/// A small count from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Small<const MIN: u16, const MAX: u16>(pub(crate) u16);

/// A duration with its unit, from `MIN` to `MAX` milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time<const MIN: u64, const MAX: u64>(pub(crate) Duration);

/// A duration with its unit, up to 366 days; `0` is none at all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MaybeTime(pub(crate) Option<Duration>);

/// `host:port`. An IPv6 address stands in brackets.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Count<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let wanted = format!("a whole number, {MIN} to {MAX}");
        parsed(from, &wanted, |text| {
            let count = text.parse().ok()?;
            (MIN..=MAX).contains(&count).then_some(Self(count))
        })
    }
}

impl<'de, const MIN: u16, const MAX: u16> Deserialize<'de> for Small<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let wanted = format!("a whole number, {MIN} to {MAX}");
        parsed(from, &wanted, |text| {
            let count = text.parse().ok()?;
            (MIN..=MAX).contains(&count).then_some(Self(count))
        })
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Time<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let wanted =
            format!("a time with its unit, {MIN}ms to {}s, such as 50ms or 2s", MAX / 1000);
        parsed(from, &wanted, |text| {
            let time = duration(text)?;
            let range = Duration::from_millis(MIN)..=Duration::from_millis(MAX);
            range.contains(&time).then_some(Self(time))
        })
    }
}

impl<'de> Deserialize<'de> for MaybeTime {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        const MAX: Duration = Duration::from_secs(366 * 86_400);
        parsed(from, "a time with its unit, such as 5m, or 0 for never", |text| match text {
            "0" => Some(Self(None)),
            text => {
                let time = duration(text).filter(|time| *time <= MAX)?;
                Some(Self((!time.is_zero()).then_some(time)))
            }
        })
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        parsed(from, "host:port", |text| {
            let (host, port) = text.rsplit_once(':')?;
            let host = match host.strip_prefix('[') {
                Some(v6) => v6.strip_suffix(']')?,
                None if host.contains(':') => return None,
                None => host,
            };
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:%".contains(&b);
            let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
            (!host.is_empty() && host.bytes().all(plain))
                .then(|| Self { host: host.to_owned(), port })
        })
    }
}

/// For an address to listen on.
pub(crate) fn address<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    parsed(from, "an IP address and port, such as 127.0.0.1:8081 or [::]:8081", |text| {
        text.parse().ok()
    })
}

/// For an address to listen on, if any.
pub(crate) fn maybe_address<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<SocketAddr>, D::Error> {
    address(from).map(Some)
}

/// Whole numbers of one unit: `250ms`, `5s`, `4m`, `1h`, `1d`.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = text.split_at(digits);
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(Duration::from_millis(count.parse::<u64>().ok()?.checked_mul(millis)?))
}

/// Reads a text and makes of it what `parse` can, or says what was `wanted`.
pub(crate) fn parsed<'de, D: Deserializer<'de>, T>(
    from: D,
    wanted: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, D::Error> {
    struct Parsed<'a, F>(&'a str, F);

    impl<T, F: Fn(&str) -> Option<T>> Visitor<'_> for Parsed<'_, F> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            (self.1)(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
        }
    }

    from.deserialize_str(Parsed(wanted, parse))
}
