//! Plans on rulesets made by hand, and the engine on events.

mod audits;
mod course;
mod events;
mod plans;
mod random;
mod staleness;
mod work;
