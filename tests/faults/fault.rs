//! The faults: how each is made, how it is mended, and what it is allowed to cost.

use harness::Result;
use harness::redis::{PASSWORD, Redis};
use rustix::process::Signal;
use std::future::Future;
use std::pin::Pin;

/// One fault of a single Redis.
pub(crate) struct Fault {
    /// On the command line, and in the table.
    pub(crate) name: &'static str,
    pub(crate) make: Deed,
    pub(crate) mend: Deed,
    /// Whether what was counted is lost: then each key has a burst once more.
    pub(crate) forgets: bool,
}

type Deed = for<'a> fn(&'a mut Redis) -> Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// A password that the host service does not know.
const OTHER: &str = "another-secret-of-the-tests";

/// All of them.
pub(crate) const FAULTS: [Fault; 9] = [
    Fault {
        name: "killed",
        make: |redis| Box::pin(async { redis.kill() }),
        mend: |redis| Box::pin(redis.revive()),
        forgets: true,
    },
    Fault {
        name: "restarted empty",
        make: |redis| {
            Box::pin(async {
                redis.kill()?;
                redis.revive().await
            })
        },
        mend: nothing,
        forgets: true,
    },
    Fault {
        name: "frozen",
        make: |redis| Box::pin(async { redis.signal(Signal::STOP) }),
        mend: |redis| Box::pin(async { redis.signal(Signal::CONT) }),
        forgets: false,
    },
    Fault {
        name: "writes held back",
        make: |redis| Box::pin(say(redis, &["CLIENT", "PAUSE", "4000", "WRITE"])),
        mend: |redis| Box::pin(say(redis, &["CLIENT", "UNPAUSE"])),
        forgets: false,
    },
    Fault {
        name: "full",
        make: |redis| Box::pin(say(redis, &["CONFIG", "SET", "maxmemory", "1"])),
        mend: |redis| Box::pin(say(redis, &["CONFIG", "SET", "maxmemory", "0"])),
        forgets: false,
    },
    Fault {
        name: "without replicas",
        make: |redis| Box::pin(say(redis, &["CONFIG", "SET", "min-replicas-to-write", "1"])),
        mend: |redis| Box::pin(say(redis, &["CONFIG", "SET", "min-replicas-to-write", "0"])),
        forgets: false,
    },
    Fault {
        name: "scripts flushed",
        make: |redis| Box::pin(say(redis, &["SCRIPT", "FLUSH"])),
        mend: nothing,
        forgets: false,
    },
    Fault {
        name: "connections cut",
        make: |redis| Box::pin(say(redis, &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])),
        mend: nothing,
        forgets: false,
    },
    Fault {
        name: "another password",
        make: |redis| {
            Box::pin(async {
                say(redis, &["CONFIG", "SET", "requirepass", OTHER]).await?;
                cut(redis, OTHER).await
            })
        },
        mend: |redis| {
            Box::pin(async {
                redis.command_as(OTHER, &["CONFIG", "SET", "requirepass", PASSWORD]).await?;
                Ok(())
            })
        },
        forgets: false,
    },
];

fn nothing(_: &mut Redis) -> Pin<Box<dyn Future<Output = Result<()>> + '_>> {
    Box::pin(async { Ok(()) })
}

async fn say(redis: &Redis, words: &[&str]) -> Result<()> {
    redis.command(words).await.map(|_| ())
}

/// Who is signed in stays so otherwise.
async fn cut(redis: &Redis, password: &str) -> Result<()> {
    let kill = ["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"];
    redis.command_as(password, &kill).await.map(|_| ())
}
