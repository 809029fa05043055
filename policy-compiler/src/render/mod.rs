//! Writes rulesets in the syntax of iptables-restore and ipset restore, which nothing else knows.
