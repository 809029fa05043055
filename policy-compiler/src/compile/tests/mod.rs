//! What compile makes of small clusters.

mod builders;
mod layout;
mod reading;
mod union;
