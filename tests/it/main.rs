//! Tests on real servers, in one binary.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod agent_beside;
mod agent_health;
mod agent_run;
mod agent_run_signals;
mod agent_support;
mod bad_input;
mod changed_ttl;
mod cli_basics;
mod cli_install;
mod cli_try;
mod clock_steps;
mod connections;
mod failover;
mod faults;
mod foreign_program;
mod hidden;
mod hidden_postgres;
mod holder_stress;
mod http_limits;
mod led;
mod listening;
mod namespaces;
mod outage;
mod put_back;
mod refusals;
mod servers;
mod store_contract;
mod store_instances;
mod store_life;
mod store_migrations;
mod store_mysql;
mod store_mysql_access;
mod store_mysql_faults;
mod store_mysql_foreign;
mod store_mysql_life;
mod store_postgres;
mod store_postgres_access;
mod store_postgres_faults;
mod store_postgres_foreign;
mod store_property;
mod store_sqlite;
mod stores;
