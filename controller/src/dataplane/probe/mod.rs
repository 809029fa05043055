//! Finding out cheaply that somebody else may have changed what policyd wrote.

pub(super) mod own;
