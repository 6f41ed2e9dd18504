//! What stands behind the `?`: few words, all of them known.

use super::asked::{from_hex, kind_named};
use super::wrong::{Wrong, nearest, quoted};
use crate::revocations::Durability;
use form_urlencoded::parse;
use tidegate_core::revoke::{Id, Kind};

/// As many of a list as are told at once, unless said otherwise, and at most.
const LIMIT: usize = 100;
pub(super) const LIMIT_MAX: usize = 1_000;

/// What may stand there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) durability: Durability,
    pub(super) on_error: OnError,
    pub(super) kind: Option<Kind>,
    pub(super) after: Option<Id>,
    pub(super) limit: usize,
}

/// What an import does about a line that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnError {
    Stop,
    Skip,
}

impl Query {
    /// Reads what stands there, if only these names do.
    ///
    /// # Errors
    ///
    /// The first word that is another.
    pub(super) fn read(text: Option<&str>, known: &[&str]) -> Result<Self, Wrong> {
        let mut query = Self {
            durability: Durability::Shared,
            on_error: OnError::Stop,
            kind: None,
            after: None,
            limit: LIMIT,
        };
        for (name, value) in parse(text.unwrap_or_default().as_bytes()) {
            if !known.contains(&name.as_ref()) {
                return Err(Wrong::new(match known {
                    [] => format!("?{}: nothing can be said there", quoted(&name)),
                    known => format!("?{}", nearest("parameter", &name, known)),
                }));
            }
            query.put(&name, &value).map_err(|what| Wrong::at(&format!("?{name}"), what))?;
        }
        Ok(query)
    }

    fn put(&mut self, name: &str, value: &str) -> Result<(), String> {
        let wanted = |wanted: &str| format!("found {:?}, wanted {wanted}", quoted(value));
        match name {
            "durability" => {
                self.durability = durability(value)
                    .ok_or_else(|| wanted("shared, this_host, or replicas=1 to replicas=9"))?;
            }
            "on_error" => {
                self.on_error = match value {
                    "stop" => OnError::Stop,
                    "skip" => OnError::Skip,
                    _ => return Err(wanted("stop or skip")),
                };
            }
            "kind" => self.kind = Some(kind_named(value)?),
            "after" => {
                self.after = Some(Id(from_hex(value).ok_or_else(|| wanted("32 hex digits"))?));
            }
            _ => {
                self.limit = value
                    .parse()
                    .ok()
                    .filter(|limit| (1..=LIMIT_MAX).contains(limit))
                    .ok_or_else(|| wanted("a whole number, 1 to 1000"))?;
            }
        }
        Ok(())
    }

    /// How many replicas are wanted.
    pub(super) fn replicas(&self) -> u32 {
        match self.durability {
            Durability::Replicas(count) => count.into(),
            Durability::Shared | Durability::ThisHost => 0,
        }
    }
}

fn durability(value: &str) -> Option<Durability> {
    match value {
        "shared" => Some(Durability::Shared),
        "this_host" => Some(Durability::ThisHost),
        value => {
            let count = value.strip_prefix("replicas=")?.parse().ok()?;
            (1..=9).contains(&count).then_some(Durability::Replicas(count))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_there_is_known_or_refused() {
        let read = |text| Query::read(Some(text), &["durability", "limit", "after"]);
        assert_eq!(read("durability=replicas=2").unwrap().replicas(), 2);
        assert_eq!(read("durability=this_host").unwrap().durability, Durability::ThisHost);
        assert_eq!(read("limit=7&after=000102030405060708090a0b0c0d0e0f").unwrap().limit, 7);
        for (text, says) in [
            (
                "durabilty=shared",
                "?there is no parameter \"durabilty\": did you mean \"durability\"?",
            ),
            ("durability=replicas=0", "?durability: found \"replicas=0\", wanted shared"),
            ("limit=0", "?limit: found \"0\", wanted a whole number, 1 to 1000"),
            ("after=xyz", "?after: found \"xyz\", wanted 32 hex digits"),
            ("kind=token", "there is no parameter \"kind\""),
        ] {
            let wrong = read(text).unwrap_err().to_string();
            assert!(wrong.contains(says), "{wrong}");
        }
    }
}
