//! The walk through chains, the conditions, what the kernel would refuse, and journeys.

mod chains;
mod conditions;
mod journeys;
mod refusals;
