//! Answers flows from the semantics of NetworkPolicy, with every reason.
