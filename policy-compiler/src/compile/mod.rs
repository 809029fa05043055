//! Compiles a snapshot to the ruleset of one node.
