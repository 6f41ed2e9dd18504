//! What the algorithms, the table, the store and the wire promise, each held against an
//! oracle that does not share their arithmetic.

mod ask;
mod chunks;
mod history;
mod plugin_wire;
mod quota_change;
mod sliding_counter;
mod sliding_window;
mod state;
mod table;
mod token_bucket;
mod wire;
