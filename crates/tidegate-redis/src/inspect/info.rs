//! The lines of `INFO`. Which of them there are depends on version, role and vendor: all are
//! optional.

use crate::settings::Address;
use std::collections::BTreeMap;

/// What a server says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info(BTreeMap<String, String>);

/// A replica, as its master sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Where it is, as it announces itself.
    pub address: Address,
    /// Whether it follows, and does not just receive all the data.
    pub is_online: bool,
    /// Seconds since it last acknowledged what it has; `None` before the first time.
    pub lag_seconds: Option<u64>,
    /// Bytes that it has acknowledged, of `master_repl_offset`.
    pub offset: u64,
}

impl Info {
    /// From the text of `INFO`.
    pub fn of(text: &str) -> Self {
        let fields = text.lines().filter_map(|line| line.trim_end().split_once(':'));
        Self(fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// A line's value.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A line's value, where it is a whole number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    /// The server's version: of Valkey its own, not that of the Redis that it takes after.
    pub fn version(&self) -> Option<&str> {
        self.text("valkey_version").or_else(|| self.text("redis_version"))
    }

    /// Whether it is a master.
    pub fn is_master(&self) -> Option<bool> {
        Some(self.text("role")? == "master")
    }

    /// The replicas of a master: `slave0:ip=10.0.0.2,port=6379,state=online,offset=1,lag=0`.
    pub fn replicas(&self) -> Vec<Replica> {
        let is_replica = |name: &str| {
            let number = name.strip_prefix("slave").unwrap_or_default();
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        };
        let lines = self.0.iter().filter(|(name, _)| is_replica(name));
        lines.filter_map(|(_, line)| replica(line)).collect()
    }
}

fn replica(line: &str) -> Option<Replica> {
    let fields: BTreeMap<&str, &str> =
        line.split(',').filter_map(|it| it.split_once('=')).collect();
    Some(Replica {
        address: Address::new(*fields.get("ip")?, fields.get("port")?.parse().ok()?),
        is_online: *fields.get("state")? == "online",
        lag_seconds: fields.get("lag").and_then(|lag| lag.parse().ok()),
        offset: fields.get("offset").and_then(|offset| offset.parse().ok()).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_are_written() {
        let info = Info::of(
            "# Replication\r\nrole:master\r\nconnected_slaves:2\r\n\
             slave0:ip=10.0.0.2,port=6379,state=online,offset=120,lag=0\r\n\
             slave1:ip=fd00::2,port=6380,state=wait_bgsave,offset=0,lag=-1\r\n\
             slave_read_only:1\r\nmaster_repl_offset:140\r\nredis_version:7.0.15\r\n",
        );
        assert_eq!(info.is_master(), Some(true));
        assert_eq!(info.number("master_repl_offset"), Some(140));
        assert_eq!((info.version(), info.text("maxmemory")), (Some("7.0.15"), None));
        let replica = |host: &str, port, is_online, lag_seconds, offset| Replica {
            address: Address::new(host, port),
            is_online,
            lag_seconds,
            offset,
        };
        let wanted = [
            replica("10.0.0.2", 6379, true, Some(0), 120),
            replica("fd00::2", 6380, false, None, 0),
        ];
        assert_eq!(info.replicas(), wanted);
        assert_eq!(
            Info::of("role:slave\nvalkey_version:9.1.2\nredis_version:7.2.4").version(),
            Some("9.1.2")
        );
        assert_eq!(Info::of("").is_master(), None);
    }
}
