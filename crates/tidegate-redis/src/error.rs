//! Why there is no answer, and the one thing that matters about it: whether it was charged.

use std::fmt::{self, Write};
use std::sync::Arc;

/// Why an ask got no answer. The cause, where there is one, is its `source()`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// There is no connection now. Nothing was sent.
    Away,
    /// More asks wait than can be sent in time. Nothing was sent.
    Busy,
    /// Whoever asked can wait no longer. It may have been charged, and counts so.
    Late,
    /// It was sent and no reply came in time or at all. It may have been charged, and counts so.
    Unknown(Arc<redis::RedisError>),
    /// The server refused it before it ran. Nothing was charged.
    Refused(Refusal, Arc<redis::RedisError>),
    /// The reply is none that our script gives. It may have been charged.
    Garbled(&'static str),
}

/// How Redis says that all of a cluster has stopped; of one slot it says `Hash slot not served`.
const STOPPED: &str = "The cluster is down";

/// What that mostly comes from.
const CLUSTER_STOPPED: &str = " (one lost shard stops all others, unless \
                               cluster-require-full-coverage is set to no on every node)";

/// Why a server refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// It does not have the script (any more).
    NoScript,
    /// It reads its data from disk.
    Loading,
    /// It is a replica: we are at the wrong server.
    ReadOnly,
    /// It does not let us in, or not do this.
    NotAllowed,
    /// It is out of memory.
    OutOfMemory,
    /// It cannot save, or lacks replicas, and takes no writes.
    NoWrites,
    /// Another script runs too long.
    Blocked,
    /// It is part of a cluster, and the key's slot is another node's.
    Moved,
    /// It is part of a cluster, and the key has just gone to another node.
    Ask,
    /// It is part of a cluster that is moving the keys just now, or has nobody for them.
    ClusterDown,
    /// It is part of a cluster that has stopped, whatever the key: some slot is nobody's and
    /// all must be served, or this node sees too few masters.
    ClusterStopped,
    /// Something else; the source says what.
    Other,
}

impl Error {
    /// Whether the ask may have been charged. If not, it may be asked again.
    pub const fn may_have_run(&self) -> bool {
        matches!(self, Self::Late | Self::Unknown(_) | Self::Garbled(_))
    }

    /// A short name, for metrics: one of a fixed few.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Busy => "busy",
            Self::Late => "late",
            Self::Unknown(_) => "unknown_outcome",
            Self::Garbled(_) => "garbled",
            Self::Refused(refusal, _) => refusal.kind(),
        }
    }

    /// Whether it did not run because the server has no script of that name.
    pub(crate) const fn is_no_script(&self) -> bool {
        matches!(self, Self::Refused(Refusal::NoScript, _))
    }

    /// Whether the next ask would be refused as well, whatever its key: the breaker's business.
    /// A node of a cluster may have nobody for one slot and serve all its others.
    pub(crate) const fn is_lasting(&self) -> bool {
        use Refusal::{Blocked, ClusterStopped, NoWrites, OutOfMemory};
        matches!(self, Self::Refused(OutOfMemory | NoWrites | Blocked | ClusterStopped, _))
    }

    /// In words, with what to do about it where that is not in the server's own.
    pub(crate) fn with_remedy(&self) -> String {
        let remedy = match self {
            Self::Refused(Refusal::ClusterStopped, _) => CLUSTER_STOPPED,
            _ => "",
        };
        format!("{}{remedy}", chain(self))
    }

    pub(crate) fn of(error: redis::RedisError) -> Self {
        match Refusal::of(&error) {
            Some(refusal) => Self::Refused(refusal, Arc::new(error)),
            None => Self::Unknown(Arc::new(error)),
        }
    }
}

impl Refusal {
    const fn kind(self) -> &'static str {
        match self {
            Self::NoScript => "no_script",
            Self::Loading => "loading",
            Self::ReadOnly => "read_only",
            Self::NotAllowed => "not_allowed",
            Self::OutOfMemory => "out_of_memory",
            Self::NoWrites => "no_writes",
            Self::Blocked => "blocked",
            Self::Moved => "moved",
            Self::Ask => "ask",
            Self::ClusterDown => "cluster_down",
            Self::ClusterStopped => "cluster_stopped",
            Self::Other => "refused",
        }
    }

    /// Whether another connection is needed before any ask can be answered.
    pub(crate) const fn wants_another_connection(self) -> bool {
        matches!(self, Self::Loading | Self::ReadOnly | Self::NotAllowed)
    }

    /// Whether another node of the cluster is to be asked instead.
    pub(crate) const fn is_redirect(self) -> bool {
        matches!(self, Self::Moved | Self::Ask)
    }

    /// What kind of refusal this is; `None` if it is no word of the server's at all.
    fn of(error: &redis::RedisError) -> Option<Self> {
        let code = match error.kind() {
            redis::ErrorKind::AuthenticationFailed => return Some(Self::NotAllowed),
            _ => error.code()?,
        };
        if code == "CLUSTERDOWN" && error.detail().is_some_and(|it| it.starts_with(STOPPED)) {
            return Some(Self::ClusterStopped);
        }
        let known = Self::of_code(code);
        Some(known.or_else(|| Self::of_detail(error.detail()?)).unwrap_or(Self::Other))
    }

    /// What went wrong inside a script is told in words, behind a mere `ERR`.
    fn of_detail(detail: &str) -> Option<Self> {
        // Redis 7.0, and since 7.2.
        const NO_RIGHTS: [&str; 2] = ["The user executing the script", "ACL failure in script"];
        if NO_RIGHTS.iter().any(|words| detail.contains(words)) {
            return Some(Self::NotAllowed);
        }
        // Before Redis 7 a command's own code is somewhere within.
        detail.split_whitespace().find_map(|word| Self::of_code(word.strip_prefix('-')?))
    }

    fn of_code(code: &str) -> Option<Self> {
        Some(match code {
            "NOSCRIPT" => Self::NoScript,
            "LOADING" => Self::Loading,
            "READONLY" | "MASTERDOWN" => Self::ReadOnly,
            "NOAUTH" | "WRONGPASS" | "NOPERM" => Self::NotAllowed,
            "OOM" => Self::OutOfMemory,
            "MISCONF" | "NOREPLICAS" => Self::NoWrites,
            "BUSY" => Self::Blocked,
            "MOVED" => Self::Moved,
            "ASK" => Self::Ask,
            "CLUSTERDOWN" | "TRYAGAIN" => Self::ClusterDown,
            _ => return None,
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away => f.write_str("redis is away"),
            Self::Busy => f.write_str("more asks than redis answers in time"),
            Self::Late => f.write_str("redis gave no reply while it was waited for"),
            Self::Unknown(_) => f.write_str("redis gave no reply"),
            Self::Garbled(what) => write!(f, "redis replied what our script never does: {what}"),
            Self::Refused(refusal, _) => write!(f, "redis refused: {}", refusal.kind()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unknown(source) | Self::Refused(_, source) => Some(source.as_ref()),
            Self::Away | Self::Busy | Self::Late | Self::Garbled(_) => None,
        }
    }
}

/// An error and what it came from, in one line; what a cause merely repeats is left out.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_said = cause.to_string();
        if !line.ends_with(&cause_said) {
            // Writing into a `String` does not fail.
            let _ = write!(line, ": {cause_said}");
        }
        source = cause.source();
    }
    line
}
