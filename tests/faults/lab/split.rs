//! A network that falls into two halves, a host service in each: network namespaces, joined
//! by a bridge in a third.
//!
//! In one half the master and one sentinel, in the other two replicas and two sentinels, which
//! promote one of them. Proxies reach the host service of either half all the time, so that
//! they see both truths. The master stops taking writes when its replicas have been away for
//! [`LAG_S`], as `host/deploy/` has it.

use super::{Lab, PASSWORD};
use crate::RATE;
use crate::fault::{A_BURST, Fault, Heals};
use crate::server::wait;
use anyhow::{Context, bail};
use harness::Result;
use harness::parts;
use harness::process::Process;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// What the sentinels call the master.
const NAME: &str = "truth";

/// So long after its replicas were last heard of, in seconds, the master takes no writes.
const LAG_S: u32 = 2;

/// How long both halves may decide by a truth of their own: until the lag is over, which the
/// master looks at each second. What the other half's new master never heard of is a burst at
/// most; and who has lost both goes on with a share, which is half of the limit here.
const TWO_TRUTHS_S: f64 = LAG_S as f64 + 1.0;

const REDIS: u16 = 6379;
const SENTINEL: u16 = 26379;
const ASKS: u16 = 8081;
const ADMIN: u16 = 8082;

/// Two halves, and the processes in them.
pub(crate) struct Split {
    // Killed before what they run in goes.
    processes: Vec<Process>,
    net: Net,
    folder: TempDir,
}

/// Where a process is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    /// With the master, and one sentinel.
    Old,
    /// With the replicas, and two sentinels.
    New,
}

impl Lab for Split {
    const NAME: &'static str = "Sentinel in two networks";
    // Time for a census, so that each half's proxy knows that it is not the fleet.
    const BEFORE: Duration = Duration::from_secs(6);
    const UNDER: Duration = Duration::from_secs(8);
    const FAULTS: &'static [Fault<Self>] = &[Fault {
        name: "split brain",
        make: |lab| lab.net.join(false),
        mend: |lab| lab.net.join(true),
        // The master hears that it is none within ten seconds, but both halves' sentinels
        // agree at once on who is.
        heals: Heals::Mended(Duration::from_secs(4)),
        over_max: A_BURST + RATE * TWO_TRUTHS_S + (RATE * 8.0 + A_BURST) / 2.0,
    }];

    fn start() -> Option<Self> {
        parts::redis().ok()?;
        let folder = tempfile::tempdir().ok()?;
        let net = Net::new().expect("network namespaces: they need root, and `ip` of iproute2");
        let mut lab = Self { processes: Vec::new(), net, folder };
        lab.populate().expect("a fleet in two namespaces");
        Some(lab)
    }

    fn hosts(&self) -> Vec<SocketAddr> {
        let at = |half| SocketAddr::new(self.net.outside(half).parse().expect("an address"), ASKS);
        vec![at(Half::Old), at(Half::New)]
    }
}

impl Split {
    fn populate(&mut self) -> Result<()> {
        let (old, new) = (self.net.inside(Half::Old), self.net.inside(Half::New));
        let server = |own: &str, port: u16, more: &str| {
            format!(
                "port {port}\nbind {own}\nsave \"\"\nappendonly no\nrequirepass {PASSWORD}\n\
                 masterauth {PASSWORD}\nrepl-diskless-sync-delay 0\nreplica-announce-ip {own}\n\
                 min-replicas-to-write 1\nmin-replicas-max-lag {LAG_S}\n{more}"
            )
        };
        let follows = format!("replicaof {old} {REDIS}\n");
        self.redis(Half::Old, "master", &server(&old, REDIS, ""), false)?;
        self.redis(Half::New, "replica-1", &server(&new, REDIS, &follows), false)?;
        self.redis(Half::New, "replica-2", &server(&new, REDIS + 1, &follows), false)?;
        wait("two replicas", || {
            let said = self.ask(Half::Old, REDIS, &["INFO", "replication"]);
            said.matches("state=online").count() == 2
        });
        let sentinels = [
            (Half::Old, &old, SENTINEL),
            (Half::New, &new, SENTINEL),
            (Half::New, &new, SENTINEL + 1),
        ];
        for (half, own, port) in sentinels {
            let text = format!(
                "port {port}\nbind {own}\nsentinel announce-ip {own}\n\
                 requirepass {PASSWORD}\nsentinel sentinel-pass {PASSWORD}\n\
                 sentinel monitor {NAME} {old} {REDIS} 2\nsentinel auth-pass {NAME} {PASSWORD}\n\
                 sentinel down-after-milliseconds {NAME} 1000\n\
                 sentinel failover-timeout {NAME} 2000\n"
            );
            self.redis(half, &format!("sentinel-{}-{port}", half as u8), &text, true)?;
        }
        for (half, _, port) in sentinels {
            wait("a quorum", || {
                self.ask(half, port, &["SENTINEL", "CKQUORUM", NAME]).starts_with("OK 3")
            });
        }
        let named = sentinels.map(|(_, own, port)| format!("{own}:{port}")).join(",");
        [Half::Old, Half::New].into_iter().try_for_each(|half| self.host(half, &named))
    }

    fn redis(&mut self, half: Half, name: &str, text: &str, is_sentinel: bool) -> Result<()> {
        let dir = self.folder.path().join(name);
        std::fs::create_dir(&dir)?;
        let file = dir.join("redis.conf");
        std::fs::write(&file, format!("dir {}\n{text}", dir.display()))?;
        let mut command = self.net.command(half, &parts::redis()?);
        command.arg(&file).args(is_sentinel.then_some("--sentinel"));
        self.processes.push(Process::start(name, &mut command, &dir)?);
        Ok(())
    }

    fn host(&mut self, half: Half, sentinels: &str) -> Result<()> {
        let dir = self.folder.path().join(format!("host-{}", half as u8));
        std::fs::create_dir(&dir)?;
        let outside = self.net.outside(half);
        let mut command = self.net.command(half, &parts::host()?);
        command.arg("serve").current_dir(&dir);
        command.env("TIDEGATE_LISTEN", format!("{outside}:{ASKS}"));
        command.env("TIDEGATE_ADMIN", format!("{outside}:{ADMIN}"));
        command.env("TIDEGATE_PROVIDER", "redis");
        command.env("TIDEGATE_REDIS_SENTINEL_HOSTS", sentinels);
        command.env("TIDEGATE_REDIS_SENTINEL_MASTER", NAME);
        command.env("TIDEGATE_REDIS_SENTINEL_PASSWORD", PASSWORD);
        command.env("TIDEGATE_REDIS_PASSWORD", PASSWORD);
        self.processes.push(Process::start("tidegate", &mut command, &dir)?);
        let log = self.processes.last().context("a process")?;
        wait("a host service that is connected", || log.log().contains("redis connected"));
        Ok(())
    }

    /// What a server or a sentinel says, asked from its own half; nothing while it is not there.
    fn ask(&self, half: Half, port: u16, words: &[&str]) -> String {
        let client = parts::redis_cli().expect("redis-cli");
        let mut command = self.net.command(half, &client);
        command.args(["-h", &self.net.inside(half), "-p", &port.to_string()]);
        command.args(["--no-auth-warning", "-a", PASSWORD]).args(words);
        String::from_utf8_lossy(&command.output().expect("redis-cli").stdout).into_owned()
    }
}

/// Two namespaces, a bridge between them in a third, and a way in from outside to each.
struct Net {
    /// Before the names of all that it makes: other runs have others.
    prefix: String,
    /// The second byte of all its addresses, for the same reason.
    byte: u32,
}

impl Net {
    fn new() -> Result<Self> {
        let id = std::process::id();
        let net = Self { prefix: format!("tg{id}"), byte: 64 + id % 128 };
        net.build()?;
        Ok(net)
    }

    fn build(&self) -> Result<()> {
        let (prefix, byte) = (&self.prefix, self.byte);
        for part in ["0", "1", "b"] {
            ip(&format!("netns add {prefix}{part}"))?;
            ip(&format!("-n {prefix}{part} link set dev lo up"))?;
        }
        ip(&format!("-n {prefix}b link add br0 type bridge"))?;
        ip(&format!("-n {prefix}b link set dev br0 up"))?;
        for half in [Half::Old, Half::New] {
            let own = format!("{prefix}{}", half as u8);
            let port = format!("port{}", half as u8);
            // Between the halves.
            ip(&format!("link add {port} netns {prefix}b type veth peer name wire netns {own}"))?;
            ip(&format!("-n {prefix}b link set dev {port} master br0 up"))?;
            ip(&format!("-n {own} addr add {}/24 dev wire", self.inside(half)))?;
            ip(&format!("-n {own} link set dev wire up"))?;
            // To it, from outside.
            let way = format!("{own}w");
            ip(&format!("link add {way} type veth peer name way netns {own}"))?;
            ip(&format!("addr add 10.{byte}.{}.1/30 dev {way}", 1 + half as u8))?;
            ip(&format!("link set dev {way} up"))?;
            ip(&format!("-n {own} addr add {}/30 dev way", self.outside(half)))?;
            ip(&format!("-n {own} link set dev way up"))?;
        }
        Ok(())
    }

    /// Joins the halves, or parts them: what is sent is then lost without a word.
    fn join(&self, joined: bool) {
        let to = if joined { "master br0" } else { "nomaster" };
        ip(&format!("-n {}b link set dev port0 {to}", self.prefix)).expect("a port of the bridge");
    }

    /// Where processes of a half are for those of the other.
    fn inside(&self, half: Half) -> String {
        format!("10.{}.3.{}", self.byte, 1 + half as u8)
    }

    /// Where they are for those outside.
    fn outside(&self, half: Half) -> String {
        format!("10.{}.{}.2", self.byte, 1 + half as u8)
    }

    /// A command that runs in a half.
    fn command(&self, half: Half, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &format!("{}{}", self.prefix, half as u8)]).arg(program);
        command
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        // What is in them goes with them.
        for part in ["0", "1", "b"] {
            let _ = ip(&format!("netns del {}{part}", self.prefix));
        }
        for half in 0..2 {
            let _ = ip(&format!("link del {}{half}w", self.prefix));
        }
    }
}

fn ip(words: &str) -> Result<()> {
    let out = Command::new("ip").args(words.split(' ')).output().context("`ip` of iproute2")?;
    if !out.status.success() {
        bail!("ip {words}: {}", String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(())
}
