//! `make bench`, the kernel's side: what policies cost packets, and what events cost the node.

pub mod duel;
pub mod enforced;
mod error;
pub mod layout;
pub mod path;
pub mod processor;
pub mod report;
pub mod road;
pub mod rows;
pub mod shape;
pub mod statistics;
pub mod traffic;

pub use self::error::BenchError;
