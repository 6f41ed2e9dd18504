//! What is revoked, and how a proxy knows of it within a stated time.
//!
//! - [`id`]: what can be revoked, as 16 bytes that tell nothing
//! - [`record`]: one revocation, or the lifting of one, and how any two go together
//! - [`log`]: the order in which all of them stand, and a place in it that can be checked
//! - [`message`]: what proxies ask of a host, and what it tells them
//! - [`fuse`]: a filter over the ids of one generation, which never misses one
//! - [`pages`]: such a filter of which a look-up reads one page, for workers that share it

pub mod fuse;
pub mod id;
pub mod log;
pub mod message;
pub mod pages;
pub mod record;

pub use id::{Id, Kind};
pub use log::Position;
pub use record::{EVER, Record};
