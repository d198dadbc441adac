//! The controller on a real API server, with exactly the rights that the chart gives it. Rows are
//! written by the tests as participants would; pods are fake. One control plane for all.

#![allow(clippy::disallowed_methods, reason = "deadlines of tests are measured by the machine's own clocks")]
#![allow(unreachable_pub, reason = "a test target has no outside")]

mod ended;
mod following;
mod instances;
mod limits;
mod recorded;
mod resilience;
mod routing;
mod steady;
mod support;
