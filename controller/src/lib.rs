//! policyd.
