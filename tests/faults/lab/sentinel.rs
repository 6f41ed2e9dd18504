//! A master with two replicas, and three sentinels.

use super::{Lab, say};
use crate::fault::{A_BURST, Fault, Heals, NONE, nothing};
use crate::server::Server;
use crate::server::sentinel::{Fleet, NAME, PASSWORD, SENTINEL_PASSWORD};
use harness::host::{Environment, of_sentinels};
use rustix::process::Signal;
use std::time::Duration;

/// A vote that is split costs twice the sentinels' failover-timeout of 2 s more.
const FAILS_OVER: Heals = Heals::Itself(Duration::from_secs(8));

impl Lab for Fleet {
    const NAME: &'static str = "Sentinel";
    const UNDER: Duration = Duration::from_secs(6);
    const FAULTS: &'static [Fault<Self>] = &[
        Fault {
            name: "master killed",
            make: |fleet| fleet.servers[0].kill(),
            mend: |fleet| fleet.servers[0].restart(),
            heals: FAILS_OVER,
            over_max: A_BURST,
        },
        Fault {
            name: "master frozen (SIGSTOP)",
            make: |fleet| fleet.servers[0].signal(Signal::STOP),
            mend: |fleet| fleet.servers[0].signal(Signal::CONT),
            heals: FAILS_OVER,
            over_max: A_BURST,
        },
        Fault {
            name: "master busy (DEBUG SLEEP)",
            make: |fleet| say(&fleet.servers[0], &["DEBUG", "SLEEP", "6"]),
            mend: nothing,
            heals: FAILS_OVER,
            over_max: A_BURST,
        },
        Fault {
            name: "master paused (CLIENT PAUSE)",
            make: |fleet| say(&fleet.servers[0], &["CLIENT", "PAUSE", "6000", "ALL"]),
            mend: nothing,
            heals: FAILS_OVER,
            over_max: A_BURST,
        },
        Fault {
            name: "switched by hand (SENTINEL FAILOVER)",
            make: |fleet| say(&fleet.sentinels[0], &["SENTINEL", "FAILOVER", NAME]),
            mend: nothing,
            heals: FAILS_OVER,
            over_max: A_BURST,
        },
        Fault {
            name: "a replica killed",
            make: |fleet| fleet.servers[1].kill(),
            mend: |fleet| fleet.servers[1].restart(),
            heals: Heals::Unhurt,
            over_max: NONE,
        },
        Fault {
            name: "a sentinel killed",
            make: |fleet| fleet.sentinels[0].kill(),
            mend: |fleet| fleet.sentinels[0].restart(),
            heals: Heals::Unhurt,
            over_max: NONE,
        },
        Fault {
            name: "quorum lost: two sentinels killed",
            make: |fleet| fleet.sentinels[..2].iter_mut().for_each(Server::kill),
            mend: |fleet| fleet.sentinels[..2].iter_mut().for_each(Server::restart),
            heals: Heals::Unhurt,
            over_max: NONE,
        },
        Fault {
            name: "quorum lost, then master killed",
            make: |fleet| {
                fleet.sentinels[..2].iter_mut().for_each(Server::kill);
                fleet.servers[0].kill();
            },
            mend: |fleet| fleet.sentinels[..2].iter_mut().for_each(Server::restart),
            // The sentinels must find each other again, and then agree.
            heals: Heals::Mended(Duration::from_secs(8)),
            over_max: A_BURST,
        },
    ];

    fn start() -> Option<Self> {
        Self::start()
    }

    fn environment(&self) -> Environment {
        let sentinels = self.sentinels.iter().map(|sentinel| sentinel.port);
        of_sentinels(sentinels, NAME, [PASSWORD, SENTINEL_PASSWORD])
    }

    /// Of the first master, once no sentinel takes it for one any more.
    fn stale_calls(&mut self) -> u64 {
        if (0..3).any(|sentinel| self.master(sentinel) == 0) {
            return 0;
        }
        // Nobody calls who is not there.
        let stats = self.servers[0].try_command(&["INFO", "commandstats"]).unwrap_or_default();
        let line = stats.lines().find(|line| line.starts_with("cmdstat_evalsha:"));
        let calls = line.and_then(|line| line.split(['=', ',']).nth(1)?.parse().ok());
        calls.unwrap_or(0)
    }
}
