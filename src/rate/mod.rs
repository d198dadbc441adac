//! How often something may be done: looks that find nothing ([`budget`]), messages that repeat ([`repeats`]).

pub mod budget;
pub mod repeats;
