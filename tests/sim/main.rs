//! The rules, driven through thousands of orders in which things can happen.
//!
//! Each search runs twice: as the product is, where it must find nothing, and with one rule broken
//! on purpose, where it must find what the rule is for. A search that finds no broken rule proves
//! nothing.

mod election;
mod labels;
