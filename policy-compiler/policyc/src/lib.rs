//! policyc.
