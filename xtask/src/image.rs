//! Makes a container image of one program, without a container engine: an archive that is both an OCI image layout
//! (`ctr images import`, skopeo, podman) and what `docker load` takes. The same input gives the same bytes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use oci_spec::image::{
    Arch, ConfigBuilder, Descriptor, DescriptorBuilder, HistoryBuilder, ImageConfigurationBuilder,
    ImageIndexBuilder, ImageManifestBuilder, MediaType, OciLayoutBuilder, Os, PlatformBuilder, RootFsBuilder,
    SCHEMA_VERSION, Sha256Digest,
};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

/// When everything in an image was made: else two builds of the same sources would differ.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// What goes into an image. Its entry point is the program, which lies in the root folder.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// Name and tag. Name it `localhost/…` for a local cluster: a name without a host is completed with a registry's.
    pub reference: String,
    pub program: PathBuf,
    /// `UID:GID`; root where it is not given.
    pub user: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// What the program needs beside it: the file on this machine by its absolute path in the image.
    pub files: BTreeMap<PathBuf, PathBuf>,
}

impl Image {
    /// Writes the archive; an earlier one is replaced when the new one is whole. Returns the image's configuration, in
    /// JSON.
    ///
    /// # Errors
    /// When a file cannot be read or written, or a path is not absolute.
    pub fn write(&self, archive: &Path) -> Result<Vec<u8>> {
        let name = self.program.file_name().and_then(|name| name.to_str());
        let entry_point = format!("/{}", name.context("the program has no name that is text")?);
        let layer = Blob::new(self.layer(&entry_point)?);
        let config = Blob::json(&self.config(&entry_point, &layer)?)?;
        let manifest = ImageManifestBuilder::default()
            .schema_version(SCHEMA_VERSION)
            .media_type(MediaType::ImageManifest)
            .config(config.descriptor(MediaType::ImageConfig)?)
            .layers([layer.descriptor(MediaType::ImageLayer)?])
            // A registry's page shows these where it does not read the configuration.
            .annotations(self.labels.clone().into_iter().collect::<HashMap<_, _>>())
            .build()?;
        let manifest = Blob::json(&manifest)?;

        let mut described = manifest.descriptor(MediaType::ImageManifest)?;
        described.set_platform(Some(
            PlatformBuilder::default().architecture(Arch::default()).os(Os::Linux).build()?,
        ));
        // containerd takes the name from the first, others from the second.
        let names = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
        let names = names.map(|name| (name.to_owned(), self.reference.clone()));
        described.set_annotations(Some(names.into()));
        let index = ImageIndexBuilder::default()
            .schema_version(SCHEMA_VERSION)
            .media_type(MediaType::ImageIndex)
            .manifests([described])
            .build()?;
        let layout = OciLayoutBuilder::default().image_layout_version("1.0.0").build()?;
        let docker =
            json!([{ "Config": config.path(), "RepoTags": [self.reference], "Layers": [layer.path()] }]);

        let mut files = BTreeMap::from([
            ("oci-layout".to_owned(), sorted(&layout)?),
            ("index.json".to_owned(), sorted(&index)?),
            ("manifest.json".to_owned(), sorted(&docker)?),
        ]);
        let configuration = config.content.clone();
        files.extend([layer, config, manifest].map(|blob| (blob.path(), blob.content)));
        replace(archive, &files)?;
        Ok(configuration)
    }

    /// A tar archive of the root folder.
    fn layer(&self, entry_point: &str) -> Result<Vec<u8>> {
        let own = (PathBuf::from(entry_point), self.program.clone());
        let files: BTreeMap<_, _> = self.files.clone().into_iter().chain([own]).collect();
        let mut folders = BTreeSet::new();
        for path in files.keys() {
            ensure!(path.is_absolute(), "{} is not an absolute path in the image", path.display());
            folders.extend(path.ancestors().skip(1).filter(|folder| folder.parent().is_some()));
        }
        let mut tar = Builder::new(Vec::new());
        for folder in folders {
            let mut header = header(0o755, 0);
            header.set_entry_type(EntryType::Directory);
            tar.append_data(&mut header, relative(folder)?, [].as_slice())?;
        }
        for (path, file) in &files {
            let content = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            append(&mut tar, 0o755, relative(path)?, &content)?;
        }
        Ok(tar.into_inner()?)
    }

    fn config(&self, entry_point: &str, layer: &Blob) -> Result<impl serde::Serialize> {
        let mut run = ConfigBuilder::default()
            .entrypoint([entry_point.to_owned()])
            .working_dir("/")
            .labels(self.labels.clone().into_iter().collect::<HashMap<_, _>>());
        if let Some(user) = &self.user {
            run = run.user(user);
        }
        let history = HistoryBuilder::default().created(CREATED).created_by("cargo xtask").build()?;
        let root =
            RootFsBuilder::default().typ("layers").diff_ids([format!("sha256:{}", layer.hex)]).build()?;
        Ok(ImageConfigurationBuilder::default()
            .created(CREATED)
            .architecture(Arch::default())
            .os(Os::Linux)
            .config(run.build()?)
            .rootfs(root)
            .history([history])
            .build()?)
    }
}

/// A file of the layout, named by its digest.
struct Blob {
    /// SHA-256, in hexadecimal.
    hex: String,
    content: Vec<u8>,
}

impl Blob {
    fn new(content: Vec<u8>) -> Self {
        let mut hex = String::new();
        for byte in Sha256::digest(&content) {
            let _ = write!(hex, "{byte:02x}");
        }
        Self { hex, content }
    }

    fn json(value: &impl serde::Serialize) -> Result<Self> {
        Ok(Self::new(sorted(value)?))
    }

    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.hex)
    }

    fn descriptor(&self, kind: MediaType) -> Result<Descriptor> {
        let digest: Sha256Digest = self.hex.parse()?;
        let size = u64::try_from(self.content.len())?;
        Ok(DescriptorBuilder::default().media_type(kind).digest(digest).size(size).build()?)
    }
}

/// JSON with its keys in order: the maps of labels and annotations have none of their own.
fn sorted(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    let mut value = serde_json::to_value(value)?;
    value.sort_all_objects();
    Ok(serde_json::to_vec(&value)?)
}

fn header(mode: u32, size: u64) -> Header {
    // Owner, group and time are 0.
    let mut header = Header::new_gnu();
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

fn append<W: Write>(tar: &mut Builder<W>, mode: u32, path: &Path, content: &[u8]) -> Result<()> {
    tar.append_data(&mut header(mode, u64::try_from(content.len())?), path, content)?;
    Ok(())
}

fn relative(path: &Path) -> Result<&Path> {
    Ok(path.strip_prefix("/")?)
}

fn replace(archive: &Path, files: &BTreeMap<String, Vec<u8>>) -> Result<()> {
    let folder = archive.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let new = archive.with_added_extension("new");
    let file = File::create(&new).with_context(|| format!("cannot write {}", new.display()))?;
    let mut tar = Builder::new(BufWriter::new(file));
    for (path, content) in files {
        append(&mut tar, 0o644, Path::new(path), content)?;
    }
    tar.into_inner()?.flush()?;
    fs::rename(&new, archive).with_context(|| format!("cannot write {}", archive.display()))
}
