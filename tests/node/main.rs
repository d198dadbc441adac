//! End to end, on a real node: the chart, the image's contents, real pods, the kubelet, kube-proxy,
//! and a client of the Service. The programs are those that cargo built for the tests, packed as
//! images; the released image differs in how it was compiled and linked.
//!
//! Each test brings up a node of its own (8 s); they wait for each other. Needs Linux and root.

#![expect(clippy::disallowed_methods, reason = "tests look at the machine's own clock")]

mod both;
mod ended;
mod failover;
mod install;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use component_lease_testkit::image;
use component_lease_testkit::node::Node;
use component_lease_testkit::scratch::Scratch;
use component_lease_testkit::stage::{IMAGE, PROGRAM_IMAGE};

/// A node with both images on it.
async fn node() -> Result<Node> {
    let files = Scratch::new("files")?;
    let component_lease = Path::new(env!("CARGO_BIN_EXE_component-lease"));
    let component_lease = image::pack(component_lease, IMAGE, files.path()).await?;
    let discovery = image::pack(&discovery()?, PROGRAM_IMAGE, files.path()).await?;
    Node::start(&[&component_lease, &discovery]).await
}

/// The example `discovery`. Cargo builds examples for a whole test run, but not for one of a single
/// target; there is nothing to do when it is there.
fn discovery() -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_BIN_EXE_component-lease")).parent().context("it is in a folder")?;
    let target = folder.parent().context("a profile's folder is in the target folder")?;
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--locked", "--quiet", "--example", "discovery", "--target-dir"]).arg(target);
    if folder.file_name() == Some("release".as_ref()) {
        build.arg("--release");
    }
    build.current_dir(env!("CARGO_MANIFEST_DIR"));
    ensure!(build.status().context("cannot run cargo")?.success(), "the example does not build");
    Ok(folder.join("examples/discovery"))
}
