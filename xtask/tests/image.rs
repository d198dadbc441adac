//! `cargo xtask image` and the `Dockerfile` describe one image, and packing it is reproducible.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use component_lease_xtask::image::Image as Packed;
use component_lease_xtask::repository;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// What there is to know of an image, whichever tool describes it.
#[derive(Debug, PartialEq, Eq)]
struct Image {
    user: String,
    entry_point: Vec<String>,
    folder: String,
    labels: BTreeMap<String, String>,
    files: Vec<String>,
}

/// Packs a stand-in for the program; returns the archive.
fn packed(folder: &Path) -> Result<PathBuf> {
    let (program, archive) = (folder.join("anything"), folder.join("out.tar"));
    std::fs::write(&program, "a program")?;
    let mut task = Command::new(env!("CARGO_BIN_EXE_component-lease-xtask"));
    let output = task.args([Path::new("image"), Path::new("--binary"), &program, &archive]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(archive)
}

/// The files of an archive, folders with a slash at the end.
fn members(archive: &[u8]) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut members = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let header = entry.header();
        assert_eq!((header.uid()?, header.gid()?, header.mtime()?), (0, 0, 0));
        let path = entry.path()?.to_string_lossy().into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        members.insert(path, content);
    }
    Ok(members)
}

fn of_archive(archive: &Path) -> Result<Image> {
    let files = members(&std::fs::read(archive)?)?;
    let member = |name: &str| files.get(name).with_context(|| format!("no {name}"));
    let manifest: Value = serde_json::from_slice(member("manifest.json")?)?;
    let blob = |value: &Value| value.as_str().map(str::to_owned).context("the name of a blob");
    let config = member(&blob(&manifest[0]["Config"])?)?;
    assert_eq!(&std::fs::read(archive.with_extension("json"))?, config, "OUT.json");
    let config: Value = serde_json::from_slice(config)?;

    let layer = members(member(&blob(&manifest[0]["Layers"][0])?)?)?;
    let paths = layer.into_keys().map(|path| format!("/{path}"));

    // The same image for those who read OCI layouts.
    let index: Value = serde_json::from_slice(member("index.json")?)?;
    let digest = blob(&index["manifests"][0]["digest"])?.replace(':', "/");
    let oci: Value = serde_json::from_slice(member(&format!("blobs/{digest}"))?)?;
    let oci_config = blob(&oci["config"]["digest"])?.replace(':', "/");
    assert_eq!(format!("blobs/{oci_config}"), blob(&manifest[0]["Config"])?);

    let config = &config["config"];
    Ok(Image {
        user: serde_json::from_value(config["User"].clone())?,
        entry_point: serde_json::from_value(config["Entrypoint"].clone())?,
        folder: serde_json::from_value(config["WorkingDir"].clone())?,
        labels: serde_json::from_value(config["Labels"].clone())?,
        files: paths.collect(),
    })
}

/// Reads the last stage of the Dockerfile, whose instructions are of the plainest kind.
fn of_dockerfile() -> Result<Image> {
    let text = std::fs::read_to_string(repository().join("Dockerfile"))?.replace("\\\n", " ");
    let stage = text.split("\nFROM ").last().context("a last stage")?;
    let base = stage.lines().next();
    assert_eq!(base, Some("scratch"), "nothing but the program is in the image");
    let all = |instruction: &str| -> Vec<&str> {
        stage.lines().filter_map(|line| line.strip_prefix(instruction)?.strip_prefix(' ')).collect()
    };
    let one = |instruction: &str| all(instruction).pop().with_context(|| format!("no {instruction}"));
    let labels = one("LABEL")?.split("\" ").map(|label| {
        let (name, value) = label.trim().split_once("=\"").context("a label is NAME=\"VALUE\"")?;
        Ok((name.to_owned(), value.trim_end_matches('"').to_owned()))
    });
    let copied = all("COPY").into_iter().filter_map(|copy| copy.split(' ').next_back());
    Ok(Image {
        user: one("USER")?.to_owned(),
        entry_point: serde_json::from_str(one("ENTRYPOINT")?)?,
        folder: one("WORKDIR")?.to_owned(),
        labels: labels.collect::<Result<_>>()?,
        files: copied.map(str::to_owned).collect(),
    })
}

#[test]
fn the_dockerfile_describes_the_image_that_is_made_without_an_engine() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let image = of_archive(&packed(folder.path())?)?;
    assert_eq!(image, of_dockerfile()?);
    // And both are what the chart counts on.
    assert_eq!(image.user, "65532:65532");
    assert_eq!(image.entry_point, ["/component-lease"]);
    assert_eq!(image.files, ["/component-lease"]);
    let manifest = std::fs::read_to_string(repository().join("Cargo.toml"))?;
    let version = &image.labels["org.opencontainers.image.version"];
    assert!(manifest.contains(&format!("\nversion = \"{version}\"\n")), "not {version}");
    Ok(())
}

#[test]
fn the_same_program_gives_the_same_image_to_the_last_byte() -> Result<()> {
    let (one, two) = (tempfile::tempdir()?, tempfile::tempdir()?);
    assert_eq!(std::fs::read(packed(one.path())?)?, std::fs::read(packed(two.path())?)?);
    Ok(())
}

#[test]
fn a_file_beside_the_program_lies_at_its_path_in_a_layer_whose_digest_is_right() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (program, archive) = (folder.path().join("tool"), folder.path().join("deep/er/out.tar"));
    std::fs::write(&program, "a program")?;
    let files = BTreeMap::from([("/lib/x/libc.so".into(), program.clone())]);
    let image = Packed { reference: "localhost/tool:1".to_owned(), program, files, ..Packed::default() };
    image.write(&archive)?;
    let all = members(&std::fs::read(&archive)?)?;
    for (path, content) in all.iter().filter(|(path, _)| path.starts_with("blobs/")) {
        let sum = Sha256::digest(content).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        assert_eq!(*path, format!("blobs/sha256/{sum}"));
    }
    let docker: Value = serde_json::from_slice(&all["manifest.json"])?;
    assert_eq!(docker[0]["RepoTags"][0], "localhost/tool:1");
    let layer = members(&all[docker[0]["Layers"][0].as_str().unwrap()])?;
    assert_eq!(layer.into_keys().collect::<Vec<_>>(), ["lib", "lib/x", "lib/x/libc.so", "tool"]);
    let relative = BTreeMap::from([("lib/libc.so".into(), image.program.clone())]);
    let error = Packed { files: relative, ..image }.write(&archive).unwrap_err();
    assert!(error.to_string().contains("lib/libc.so is not an absolute path"), "{error:#}");
    Ok(())
}

#[test]
fn the_dockerfile_builds_with_the_toolchain_of_the_repository() -> Result<()> {
    let toolchain = std::fs::read_to_string(repository().join("rust-toolchain.toml"))?;
    let version = toolchain.split('"').nth(1).context("a channel")?;
    let dockerfile = std::fs::read_to_string(repository().join("Dockerfile"))?;
    assert!(dockerfile.contains(&format!("ARG RUST_IMAGE=rust:{version}-")), "not {version}");
    assert!(dockerfile.contains("FROM ${RUST_IMAGE} AS build"), "it builds with another image");
    Ok(())
}
