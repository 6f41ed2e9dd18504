//! Components in other languages: the examples of `wit/`, built and run as its README says, by the
//! tools that their authors would use. `cargo xtask test --only foreign` fetches those.

mod duties;
mod hosts;
mod instances;
mod page;
mod plugins;
mod together;
