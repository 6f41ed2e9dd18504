//! What is revoked, and how a proxy knows of it within a stated time.
//!
//! - [`id`]: what can be revoked, as 16 bytes that tell nothing
//! - [`identity`]: which of these a request has
//! - [`record`]: one revocation, or the lifting of one, and how any two go together
//! - [`log`]: the order in which all of them stand, and a place in it that can be checked
//! - [`message`]: what proxies ask of a host, and what it tells them
//! - [`fuse`]: a filter over the ids of one generation, which never misses one
//! - [`pages`]: such a filter of which a look-up reads one page, for workers that share it
//! - [`images`]: where a worker looks ids up; [`sheet`]: where images lie that workers share
//! - [`deltas`]: what came since
//! - [`known`]: images and deltas together, as one worker has them

pub mod deltas;
pub mod fuse;
pub mod id;
pub mod identity;
pub mod images;
pub mod known;
pub mod log;
pub mod message;
pub mod pages;
pub mod record;
pub mod sheet;

pub use id::{Id, Kind};
pub use identity::Identity;
pub use log::Position;
pub use record::{EVER, Record};
