//! Container images of programs that were built for this machine.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use component_lease_xtask::image::Image;
use tokio::process::Command;

use crate::control_plane::run;

/// Packs a program that cargo built for a test (linked dynamically, hence with the libraries
/// it asks for) as the image `reference`, with the user and entry point of the real image.
/// The released image is made by `cargo xtask image`, whose build takes minutes.
///
/// # Errors
/// When a library or a tool is missing.
pub async fn pack(program: &Path, reference: &str, folder: &Path) -> Result<PathBuf> {
    let name = program.file_name().context("a program has a name")?;
    let lean = folder.join(name);
    let mut strip = Command::new("strip");
    strip.arg("--strip-debug").arg("-o").arg(&lean).arg(program);
    run(strip, "").await.context("cannot strip the program")?;

    let archive = folder.join(name).with_extension("tar");
    let files = libraries(&lean).await?.into_iter().map(|library| (library.clone(), library)).collect();
    let user = Some("65532:65532".to_owned());
    let image = Image { reference: reference.to_owned(), program: lean, user, files, ..Image::default() };
    image.write(&archive).context("cannot pack the image")?;
    Ok(archive)
}

/// The shared libraries that a program loads, its loader among them; none for a static one.
async fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let mut ldd = Command::new("ldd");
    ldd.arg(program);
    match run(ldd, "").await {
        Ok(list) => Ok(parse(&list)),
        Err(error) if format!("{error:#}").contains("not a dynamic executable") => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Lines like `libc.so.6 => /lib/libc.so.6 (0x…)` and `/lib64/ld-linux-x86-64.so.2 (0x…)`.
fn parse(list: &str) -> Vec<PathBuf> {
    let paths = list.lines().flat_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    paths.map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_what_ldd_prints() {
        let list = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        assert_eq!(
            parse(list),
            ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from)
        );
        assert_eq!(parse("\tstatically linked\n"), Vec::<PathBuf>::new());
    }
}
