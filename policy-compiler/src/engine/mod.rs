//! Keeps a ruleset in step with events, and says how the kernel gets there.
