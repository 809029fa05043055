//! The pages of `policyc` in a real browser: headless Chromium, which `.ci/setup` installs.

#![cfg(test)]

mod browser;
mod crowd;
mod graph;
mod matrix;
