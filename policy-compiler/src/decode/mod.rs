//! Decodes objects from documents, strictly where policy depends on it.
