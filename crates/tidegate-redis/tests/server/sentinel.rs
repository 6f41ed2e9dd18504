//! A master, two replicas and three sentinels, each a real process.

use super::{Server, TRIES, free_port, program, wait};
use tempfile::TempDir;

/// What clients of the servers must say, and what clients of the sentinels must.
pub const PASSWORD: &str = "secret-of-the-servers";
pub const SENTINEL_PASSWORD: &str = "secret-of-the-sentinels";

/// What the sentinels call the master.
pub const NAME: &str = "truth";

/// How long a master must be silent to count as down.
pub const DOWN_AFTER_MS: u32 = 1_000;

/// A vote that was split, as happens on a busy machine, is repeated after twice this.
const FAILOVER_TIMEOUT_MS: u32 = 2_000;

/// They are killed, and their files gone, when this is dropped.
pub struct Fleet {
    pub servers: Vec<Server>,
    pub sentinels: Vec<Server>,
    // Dropped last: sentinels write their files there.
    folder: TempDir,
}

impl Fleet {
    /// A fleet that knows itself, or `None` if there is no Redis here.
    pub fn start() -> Option<Self> {
        program()?;
        let folder = tempfile::tempdir().unwrap();
        let mut fleet = Self { servers: Vec::new(), sentinels: Vec::new(), folder };
        for number in 0..3 {
            fleet.start_server(number);
        }
        let master = &fleet.servers[0];
        wait("two replicas", || master.info("connected_slaves") == "2");
        wait("replicas online", || {
            let info = master.command(&["INFO", "replication"]);
            info.matches("state=online").count() == 2
        });
        let port = fleet.servers[0].port;
        for _ in 0..3 {
            fleet.start_sentinel(port, Some(PASSWORD));
        }
        wait("sentinels that know each other and the replicas", || {
            fleet.sentinels.iter().all(|sentinel| {
                let replicas = sentinel.command(&["SENTINEL", "REPLICAS", NAME]);
                let linked = "master-link-status\nok";
                sentinel.command(&["SENTINEL", "CKQUORUM", NAME]).starts_with("+OK 3")
                    && replicas.matches(linked).count() == 2
                    && !replicas.contains("disconnected")
            })
        });
        Some(fleet)
    }

    /// One more sentinel, which watches `port`. Without the password it hears nothing from
    /// there, and so nothing of other sentinels either.
    pub fn start_sentinel(&mut self, port: u16, password: Option<&str>) {
        for _ in 0..TRIES {
            let own = free_port();
            let file = self.folder.path().join(format!("sentinel-{own}.conf"));
            let auth = password.map(|word| format!("sentinel auth-pass {NAME} {word}\n"));
            let text = format!(
                "port {own}\nbind 127.0.0.1\ndir {dir}\nrequirepass {SENTINEL_PASSWORD}\n\
                 sentinel sentinel-pass {SENTINEL_PASSWORD}\n\
                 sentinel monitor {NAME} 127.0.0.1 {port} 2\n{auth}\
                 sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}\n\
                 sentinel failover-timeout {NAME} {FAILOVER_TIMEOUT_MS}\n",
                dir = self.folder.path().display(),
                auth = auth.unwrap_or_default(),
            );
            std::fs::write(&file, text).unwrap();
            let arguments = vec![file.display().to_string(), "--sentinel".to_owned()];
            let started =
                Server::start_as(program().unwrap(), own, arguments, Some(SENTINEL_PASSWORD));
            if let Some(sentinel) = started {
                return self.sentinels.push(sentinel);
            }
        }
        panic!("redis-sentinel did not start on any of {TRIES} ports");
    }

    /// The master's number, by the word of the first sentinel.
    pub fn master(&self, sentinel: usize) -> usize {
        let said = self.sentinels[sentinel].command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]);
        let port = said.lines().nth(1).and_then(|port| port.parse::<u16>().ok());
        self.servers.iter().position(|server| Some(server.port) == port).expect("one of ours")
    }

    fn start_server(&mut self, number: usize) {
        let dir = self.folder.path().join(format!("server-{number}"));
        std::fs::create_dir(&dir).unwrap();
        // Sentinel has a server rewrite its file.
        let file = dir.join("redis.conf");
        for _ in 0..TRIES {
            let port = free_port();
            let replica = match self.servers.first() {
                None => String::new(),
                Some(master) => format!("replicaof 127.0.0.1 {}\n", master.port),
            };
            let text = format!(
                "port {port}\nbind 127.0.0.1\ndir {}\nsave \"\"\nappendonly no\n\
                 requirepass {PASSWORD}\nmasterauth {PASSWORD}\nrepl-diskless-sync-delay 0\n\
                 enable-debug-command local\n{replica}",
                dir.display()
            );
            std::fs::write(&file, text).unwrap();
            let arguments = vec![file.display().to_string()];
            if let Some(server) =
                Server::start_as(program().unwrap(), port, arguments, Some(PASSWORD))
            {
                return self.servers.push(server);
            }
        }
        panic!("redis-server did not start on any of {TRIES} ports");
    }
}
