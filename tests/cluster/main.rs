//! The controller on a real API server, with exactly the rights that the chart gives it. Rows are
//! written by the tests as participants would; pods are fake. One control plane for all.

#![expect(clippy::disallowed_methods, reason = "deadlines of tests are measured by the machine's own clocks")]
#![expect(unreachable_pub, reason = "a test target has no outside")]

mod admission;
mod another_database;
mod bad_input;
mod classes;
mod database;
mod databases;
mod databases_members;
mod databases_schema;
mod drains;
mod ended;
mod failing;
mod flapping;
mod floor;
mod following;
mod foreign;
mod instances;
mod limits;
mod messages;
mod metrics;
mod pause;
mod people;
mod pooled;
mod preferred;
mod quarantine;
mod recorded;
mod requesters;
mod requests;
mod requests_kept;
mod requests_schema;
mod resilience;
mod routing;
mod schema;
mod services;
mod serving;
mod steady;
mod store;
mod support;
mod tenants;
mod verbs;
mod workloads;

use support::harness;
