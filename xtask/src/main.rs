//! `cargo xtask`: what the repository does to itself.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Parser, Subcommand};
use component_lease_xtask::image::Image;
use component_lease_xtask::repository;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "What the repository does to itself.")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Build the program and pack it as the released image; print where the archive is.
    ///
    /// The image is one static program on an empty base. The Dockerfile describes the same image for those who have
    /// a container engine; a test compares the two. Beside OUT.tar lies OUT.json, the image's configuration.
    Image {
        /// Pack this file as if it were the program, instead of building it.
        #[arg(long, value_name = "FILE", requires = "out")]
        binary: Option<PathBuf>,
        /// Where the archive goes [default: image/component-lease-VERSION.tar in the target folder].
        out: Option<PathBuf>,
    },
    /// Pack a program as an image: its entry point, on an empty base.
    Pack {
        /// Where the archive goes.
        out: PathBuf,
        /// The image's name and tag.
        reference: String,
        /// The program; statically linked, as nothing else is in the image.
        program: PathBuf,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().task {
        Task::Image { binary, out } => image(binary, out),
        Task::Pack { out, reference, program } => {
            Image { reference, program, ..Image::default() }.write(&out).map(drop)
        }
    }
}

fn image(binary: Option<PathBuf>, out: Option<PathBuf>) -> Result<()> {
    let package = Package::read(&repository())?;
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from);
    let binary = match binary {
        Some(binary) => binary,
        None => build(&target)?,
    };
    let out = out.unwrap_or_else(|| target.join(format!("image/component-lease-{}.tar", package.version)));
    // The entry point is called as the program, whatever the file is called.
    let folder = out.with_extension("program");
    fs::create_dir_all(&folder)?;
    let program = folder.join("component-lease");
    fs::copy(&binary, &program).with_context(|| format!("cannot copy {}", binary.display()))?;
    let reference = format!("localhost/component-lease:{}", package.version);
    let label = |name: &str, value: &str| (format!("org.opencontainers.image.{name}"), value.to_owned());
    let labels = [
        label("title", "component-lease"),
        label("description", &package.description),
        label("version", &package.version),
        label("licenses", &package.license),
        label("vendor", "The ComponentLease authors"),
        label("url", &package.homepage),
        label("source", &package.repository),
        label("documentation", &format!("{}/docs", package.homepage)),
    ];
    let user = Some("65532:65532".to_owned());
    let image =
        Image { reference: reference.clone(), program, user, labels: labels.into(), ..Image::default() };
    let configuration = image.write(&out)?;
    fs::write(out.with_extension("json"), configuration)?;
    fs::remove_dir_all(&folder)?;
    println!(
        "{out}: {reference}, {size} KiB\n  ctr -n k8s.io images import {out}        (or: docker load -i, podman load -i, skopeo copy oci-archive:)",
        out = out.display(),
        size = fs::metadata(&out)?.len() / 1024
    );
    Ok(())
}

/// What Cargo.toml says of the program.
struct Package {
    version: String,
    description: String,
    license: String,
    homepage: String,
    repository: String,
}

impl Package {
    fn read(repository: &Path) -> Result<Self> {
        let manifest = repository.join("Cargo.toml");
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"]).arg(&manifest);
        let output = cargo.output().context("cannot run cargo metadata")?;
        ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
        let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let packages = metadata["packages"].as_array().context("no packages")?;
        let package = packages.iter().find(|package| package["name"] == "component-lease");
        let package = package.context("no package component-lease")?;
        let text = |name: &str| {
            let value =
                package[name].as_str().with_context(|| format!("{} has no {name}", manifest.display()));
            value.map(str::to_owned)
        };
        Ok(Self {
            version: text("version")?,
            description: text("description")?,
            license: text("license")?,
            homepage: text("homepage")?,
            repository: text("repository")?,
        })
    }
}

/// Builds the program, linked statically; where it is.
fn build(target: &Path) -> Result<PathBuf> {
    ensure!(
        cfg!(target_os = "linux"),
        "the image's program is built on Linux only (elsewhere: docker build .)"
    );
    let libc = Command::new("cc").arg("-print-file-name=libc.a").output().context("cannot run cc")?;
    // The name alone means that there is none.
    if !libc.stdout.starts_with(b"/") {
        bail!("no static C library (libc.a): apt-get install libc6-dev");
    }
    let triple = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home =
        home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo"))).context("no HOME")?;
    // --target keeps the flag off procedural macros; a static-pie of glibc resolves names in an empty root as well (it
    // reads /etc/resolv.conf and /etc/hosts and needs nothing else). No path of the builder's home gets into the image.
    let flags = format!("-C target-feature=+crt-static --remap-path-prefix={}=/cargo", home.display());
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args([
        "build",
        "--locked",
        "--release",
        "--features",
        "cli",
        "--bin",
        "component-lease",
        "--target",
        &triple,
    ]);
    let built =
        cargo.env("RUSTFLAGS", flags).current_dir(repository()).status().context("cannot run cargo")?;
    ensure!(built.success(), "cargo build failed");
    let program = target.join(&triple).join("release/component-lease");
    // Static means: asks for no interpreter.
    let head = fs::read(&program).with_context(|| format!("cannot read {}", program.display()))?;
    let interpreter = b"/ld-linux";
    let asks = head[..head.len().min(4096)].windows(interpreter.len()).any(|bytes| bytes == interpreter);
    ensure!(!asks, "{} is not static", program.display());
    Ok(program)
}
