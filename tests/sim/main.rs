//! The rules, driven through thousands of orders in which things can happen.
//!
//! Each search runs twice: as the product is, where it must find nothing, and with one rule broken
//! on purpose, where it must find what the rule is for. A search that finds no broken rule proves
//! nothing.

#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a test says where it fails, and simulated times are small"
)]

mod database;
mod election;
mod labels;
