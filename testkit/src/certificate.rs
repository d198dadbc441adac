//! An authority and a server certificate signed by it (rustls refuses an authority's own
//! certificate as a server's).

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// Writes `server.crt` and `server.key` as `openssl req -x509` makes them of these arguments: signed by itself.
pub(crate) fn self_signed(folder: &Path, arguments: &[String]) -> Result<()> {
    let done = Command::new("openssl")
        .args(["req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "365"])
        .args(["-keyout", "server.key", "-out", "server.crt"])
        .args(arguments)
        .current_dir(folder)
        .output()
        .context("cannot run openssl")?;
    if !done.status.success() {
        bail!("openssl: {}", String::from_utf8_lossy(&done.stderr));
    }
    std::fs::copy(folder.join("server.crt"), folder.join("ca.crt"))?;
    Ok(())
}

/// Writes `ca.crt`, `ca.key`, `server.crt` and `server.key`; the server is `localhost`, 127.0.0.1 or
/// (the machine as a node's pods see it) 198.18.0.1.
pub(crate) fn make(folder: &Path) -> Result<()> {
    let openssl = |args: &[&str]| -> Result<()> {
        let done = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .args(["-nodes", "-days", "30"])
            .args(args)
            .current_dir(folder)
            .output()
            .context("cannot run openssl")?;
        if !done.status.success() {
            bail!("openssl: {}", String::from_utf8_lossy(&done.stderr));
        }
        Ok(())
    };
    openssl(&["-subj", "/CN=testkit authority", "-keyout", "ca.key", "-out", "ca.crt"])?;
    openssl(&[
        "-subj",
        "/CN=localhost",
        "-CA",
        "ca.crt",
        "-CAkey",
        "ca.key",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-addext",
        "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:198.18.0.1",
        "-keyout",
        "server.key",
        "-out",
        "server.crt",
    ])
}
