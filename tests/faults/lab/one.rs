//! One Redis.

use super::{Lab, PASSWORD, of_one, say};
use crate::fault::{A_BURST, Fault, Heals, MENDED, NONE, nothing};
use crate::server::{Server, wait};
use harness::host::Environment;
use rustix::process::Signal;
use std::time::Duration;
use tempfile::TempDir;

/// A password that the host service does not know.
const OTHER: &str = "another-secret-of-the-tests";

/// How long a pause is to last that is ended sooner.
const LONG_MS: &str = "20000";

/// A server that keeps nothing on disk.
pub(crate) struct One {
    redis: Server,
    // Dropped last: a server that cannot save tries to, here.
    folder: TempDir,
}

impl Lab for One {
    const NAME: &'static str = "one Redis";
    const UNDER: Duration = Duration::from_secs(4);
    const FAULTS: &'static [Fault<Self>] = &[
        Fault {
            name: "killed",
            make: |lab| lab.redis.kill(),
            mend: |lab| lab.redis.restart(),
            heals: MENDED,
            over_max: A_BURST,
        },
        Fault {
            name: "restarted empty",
            make: |lab| lab.redis.restart(),
            mend: nothing,
            heals: Heals::Itself(Duration::from_secs(2)),
            over_max: A_BURST,
        },
        Fault {
            name: "frozen (SIGSTOP)",
            make: |lab| lab.redis.signal(Signal::STOP),
            mend: |lab| lab.redis.signal(Signal::CONT),
            heals: MENDED,
            over_max: NONE,
        },
        Fault {
            name: "busy (DEBUG SLEEP)",
            make: |lab| lab.say(&["DEBUG", "SLEEP", "4"]),
            mend: nothing,
            heals: MENDED,
            over_max: NONE,
        },
        Fault {
            name: "writes held back (CLIENT PAUSE)",
            make: |lab| lab.say(&["CLIENT", "PAUSE", LONG_MS, "WRITE"]),
            mend: |lab| lab.say(&["CLIENT", "UNPAUSE"]),
            heals: MENDED,
            over_max: NONE,
        },
        Fault {
            name: "full (OOM)",
            make: |lab| lab.say(&["CONFIG", "SET", "maxmemory", "1"]),
            mend: |lab| lab.say(&["CONFIG", "SET", "maxmemory", "0"]),
            heals: MENDED,
            over_max: NONE,
        },
        Fault {
            name: "cannot save (MISCONF)",
            make: Self::fail_to_save,
            mend: |lab| lab.say(&["CONFIG", "SET", "save", ""]),
            heals: MENDED,
            over_max: NONE,
        },
        Fault {
            name: "without replicas (NOREPLICAS)",
            make: |lab| lab.say(&["CONFIG", "SET", "min-replicas-to-write", "1"]),
            mend: |lab| lab.say(&["CONFIG", "SET", "min-replicas-to-write", "0"]),
            heals: MENDED,
            over_max: NONE,
        },
        Fault {
            name: "scripts flushed",
            make: |lab| lab.say(&["SCRIPT", "FLUSH"]),
            mend: nothing,
            heals: Heals::Unhurt,
            over_max: NONE,
        },
        Fault {
            name: "connections cut",
            make: Self::cut,
            mend: nothing,
            heals: Heals::Itself(Duration::from_secs(1)),
            over_max: NONE,
        },
        Fault {
            name: "another password",
            make: |lab| {
                lab.say(&["CONFIG", "SET", "requirepass", OTHER]);
                lab.redis.set_password(OTHER);
                lab.cut();
            },
            mend: |lab| lab.say(&["CONFIG", "SET", "requirepass", PASSWORD]),
            // Who is not let in tries again after two to four seconds: accounts get locked.
            heals: Heals::Mended(Duration::from_secs(5)),
            over_max: NONE,
        },
    ];

    fn start() -> Option<Self> {
        let arguments = ["--requirepass", PASSWORD, "--enable-protected-configs", "yes"];
        let redis = Server::start_with(&arguments, Some(PASSWORD))?;
        Some(Self { redis, folder: tempfile::tempdir().ok()? })
    }

    fn environment(&self) -> Environment {
        of_one(format!("127.0.0.1:{}", self.redis.port))
    }
}

impl One {
    fn say(&self, words: &[&str]) {
        say(&self.redis, words);
    }

    /// Who is signed in stays so otherwise.
    fn cut(&mut self) {
        self.redis.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    }

    /// Where its file is to be, there is a folder.
    fn fail_to_save(&mut self) {
        let taken = self.folder.path().join("taken");
        std::fs::create_dir_all(taken.join("by")).expect("a folder");
        let dir = self.folder.path().display().to_string();
        self.say(&["CONFIG", "SET", "dir", &dir, "dbfilename", "taken", "save", "3600 1"]);
        self.redis.command(&["BGSAVE"]);
        wait("a failed save", || self.redis.info("rdb_last_bgsave_status") == "err");
    }
}
