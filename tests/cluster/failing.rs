//! What somebody sees of a test of this target that fails.

use anyhow::{Result, bail};

use crate::harness;
use crate::support::{Site, plane};

#[test]
fn what_is_in_a_namespace_is_printed_before_it_goes_if_a_test_ends_with_an_error_and_only_then() -> Result<()>
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let plane = runtime.block_on(plane())?;
    let phase = |name: &str| {
        runtime.block_on(plane.kubectl(&["get", "namespace", name, "-o", "jsonpath={.status.phase}"]))
    };
    for fails in [true, false] {
        let (mut made, mut printed) = (Vec::new(), Vec::new());
        let body = async {
            for prefix in ["printed", "also-printed"] {
                let site = Site::new(prefix).await?;
                made.push(site.name().to_owned());
            }
            if fails {
                bail!("as `ensure!` ends a test");
            }
            Ok(())
        };
        let ended = harness::run(&runtime, body, |namespace| {
            let phase = phase(namespace.name()).unwrap_or_else(|error| format!("{error:#}"));
            printed.push((namespace.name().to_owned(), phase));
        });
        assert_eq!(ended.is_err(), fails);
        let there = |name: &String| (name.clone(), "Active".to_owned());
        assert_eq!(printed, if fails { made.iter().map(there).collect() } else { Vec::new() });
        for name in made {
            // It may be gone altogether.
            assert_ne!(phase(&name).unwrap_or_default(), "Active", "{name} is left behind");
        }
    }
    Ok(())
}
