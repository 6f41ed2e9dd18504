//! One Redis, and a network between it and the host service that can break in the middle of
//! a reply.

use super::{Lab, PASSWORD, of_one};
use crate::fault::{Fault, MENDED, NONE};
use crate::server::{Server, free_port};
use harness::host::Environment;
use rustix::net::sockopt::set_socket_linger;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

/// How long a byte takes on a wire that is slow: a reply of ours takes a third of a second.
const SLOW_BYTE: Duration = Duration::from_millis(5);

/// How often a connection looks whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A server and the only way to it.
pub(crate) struct Behind {
    wire: Wire,
    _redis: Server,
}

impl Lab for Behind {
    const NAME: &'static str = "one Redis behind a bad network";
    const UNDER: Duration = Duration::from_secs(4);
    const FAULTS: &'static [Fault<Self>] = &[
        Fault {
            name: "reset in the middle of replies",
            make: |lab| lab.wire.set(Mode::Cut),
            mend: |lab| lab.wire.set(Mode::Pass),
            heals: MENDED,
            over_max: NONE,
        },
        Fault {
            name: "slow reader: a byte in 5 ms, each way",
            make: |lab| lab.wire.set(Mode::Slow),
            mend: |lab| lab.wire.set(Mode::Pass),
            heals: MENDED,
            over_max: NONE,
        },
        Fault {
            name: "nothing read and nothing said",
            make: |lab| lab.wire.set(Mode::Hold),
            mend: |lab| lab.wire.set(Mode::Pass),
            heals: MENDED,
            over_max: NONE,
        },
    ];

    fn start() -> Option<Self> {
        let redis = Server::start_with(&["--requirepass", PASSWORD], Some(PASSWORD))?;
        Some(Self { wire: Wire::to(redis.port), _redis: redis })
    }

    fn environment(&self) -> Environment {
        of_one(format!("127.0.0.1:{}", self.wire.port))
    }
}

/// What a wire does with what comes.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Mode {
    Pass,
    /// Of the server's next bytes half arrive, and then a reset.
    Cut,
    Slow,
    Hold,
}

/// Carries bytes between a port of its own and a server's; ends when dropped.
struct Wire {
    port: u16,
    how: Arc<How>,
}

#[derive(Default)]
struct How {
    mode: AtomicU8,
    is_over: AtomicBool,
}

impl Wire {
    fn to(server: u16) -> Self {
        let port = free_port();
        let door = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
        let how = Arc::new(How::default());
        let shared = how.clone();
        thread::spawn(move || {
            for client in door.incoming().take_while(|_| !shared.is_over()).flatten() {
                // Refused, if there is no server.
                if let Ok(server) = TcpStream::connect(("127.0.0.1", server)) {
                    join(&client, &server, &shared);
                }
            }
        });
        Self { port, how }
    }

    fn set(&self, mode: Mode) {
        self.how.mode.store(mode as u8, Ordering::Relaxed);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.how.is_over.store(true, Ordering::Relaxed);
        // Wakes the door, which then finds out.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl How {
    fn is(&self, mode: Mode) -> bool {
        self.mode.load(Ordering::Relaxed) == mode as u8
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

fn join(client: &TcpStream, server: &TcpStream, how: &Arc<How>) {
    let is_cut = Arc::new(AtomicBool::new(false));
    for (from, to, is_reply) in [(client, server, false), (server, client, true)] {
        let (from, to) = (from.try_clone().expect("a handle"), to.try_clone().expect("a handle"));
        let (how, is_cut) = (how.clone(), is_cut.clone());
        from.set_read_timeout(Some(LOOK_EVERY)).expect("a timeout");
        to.set_nodelay(true).expect("an option");
        thread::spawn(move || {
            carry(from, to, &how, &is_cut, is_reply);
            // The other way ends too.
            is_cut.store(true, Ordering::Relaxed);
        });
    }
}

/// Carries bytes one way, until either end closes.
fn carry(mut from: TcpStream, mut to: TcpStream, how: &How, is_cut: &AtomicBool, is_reply: bool) {
    let mut bytes = [0; 4096];
    while !how.is_over() && !is_cut.load(Ordering::Relaxed) {
        if how.is(Mode::Hold) {
            thread::sleep(LOOK_EVERY);
            continue;
        }
        let read = match from.read(&mut bytes) {
            Ok(0) => return,
            Ok(read) => read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                continue;
            }
            Err(_) => return,
        };
        if is_reply && how.is(Mode::Cut) {
            let _ = to.write_all(&bytes[..read / 2]);
            // With its last handle it ends in a reset.
            let _ = set_socket_linger(&to, Some(Duration::ZERO));
            return;
        }
        let step = if how.is(Mode::Slow) { 1 } else { read };
        for some in bytes[..read].chunks(step) {
            if to.write_all(some).is_err() || how.is_over() {
                return;
            }
            if how.is(Mode::Slow) {
                thread::sleep(SLOW_BYTE);
            }
        }
    }
}
