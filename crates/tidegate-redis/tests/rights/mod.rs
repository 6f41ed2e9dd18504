//! A user that has the least rights that the host is given on a server.

use crate::server::Server;
use tidegate_redis::{Password, Settings};

/// What the host may do.
const RIGHTS: &str = include_str!("../../../../host/deploy/redis/servers.acl");

/// Makes that user, and has `settings` sign in as it.
pub(crate) fn least(server: &Server, mut settings: Settings) -> Settings {
    let (_, user) = RIGHTS.split_once("\nuser tidegate on PASSWORDS ").unwrap();
    let (rights, _) = user.split_once("\n\n").unwrap();
    let words = ["ACL", "SETUSER", "tidegate", "on", ">of-the-host"].into_iter();
    let words: Vec<_> = words.chain(rights.split_whitespace().filter(|w| *w != "\\")).collect();
    assert_eq!(server.command(&words), "+OK");
    settings.access.credentials.username = Some("tidegate".to_owned());
    settings.access.credentials.password = Password::Text("of-the-host".to_owned());
    settings
}
