//! What compile makes of small clusters.

mod audit;
mod builders;
mod layout;
mod names;
mod ports;
mod reading;
mod size;
mod spoof;
mod subjects;
mod union;
mod unknown;
