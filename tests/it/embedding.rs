//! The example of a service that embeds a participant, run until its work ends in each of the ways that work may end.

use std::panic::{AssertUnwindSafe, catch_unwind};

use component_lease::election::ComponentName;
use tokio::io::AsyncBufReadExt as _;
use tokio::runtime::Runtime;

use crate::stores::SqliteFile;

#[path = "../../examples/embedded.rs"]
#[expect(dead_code, reason = "its main is not called")]
mod example;

#[test]
fn the_row_is_free_after_the_example_whether_its_work_ends_fails_or_panics() {
    let file = SqliteFile::none_yet();
    let url = format!("sqlite:{}", file.path().display());
    let component = ComponentName::new("embedded-example").unwrap();
    let cases = [("4\n", Some(true)), ("4\nfour\n", Some(false)), ("4\n0\n", None)];
    for ((jobs, wanted), version) in cases.into_iter().zip(1..) {
        // As at the end of a process, nothing goes on after `serve`: the runtime is gone.
        let served = catch_unwind(AssertUnwindSafe(|| {
            Runtime::new().unwrap().block_on(example::serve(&url, jobs.as_bytes().lines()))
        }));
        assert_eq!(served.map(|served| served.is_ok()).ok(), wanted, "{jobs:?}");
        let row =
            Runtime::new().unwrap().block_on(async { file.store().look(&component).await.unwrap().row });
        let row = row.unwrap();
        assert!(row.is_free() && row.version == version, "after {jobs:?} the lease is left held: {row:?}");
    }
}
