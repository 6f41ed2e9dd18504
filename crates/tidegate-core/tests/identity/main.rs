//! Tokens as they come, from those who mean well and those who do not: what they claim, which
//! one counts, and by which ids what they stand for can be revoked.

mod ids;
mod json;
mod jws;
mod metadata;
mod number;
mod request;
mod sources;
