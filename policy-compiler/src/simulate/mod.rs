//! Executes a ruleset on a packet as the kernel does.
