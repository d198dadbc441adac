//! Tests on real servers, in one binary.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod store_contract;
mod store_migrations;
mod store_postgres;
mod store_postgres_faults;
mod store_property;
mod store_sqlite;
mod stores;
