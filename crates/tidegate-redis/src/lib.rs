//! Answers asks from a Redis server.

mod error;
mod settings;

pub use error::Error;
pub use settings::{BadUrl, Credentials, Password, Settings};
