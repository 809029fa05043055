//! The lint on manifests: its pages, its edges, and what its findings promise.

#![cfg(test)]

mod edges;
mod examples;
mod laws;
mod pages;
mod said;
