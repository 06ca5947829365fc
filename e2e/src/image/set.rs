//! The images that a cluster starts with: what the node itself needs, what tests run, and Berth's own.

use std::fs;
use std::path::Path;

use super::{Contents, Image, ImageError, Recipe, io_at};
use crate::packages;
use crate::release::Binaries;
use crate::tools::Tools;

/// The public certificate authorities: for stores and registries elsewhere.
const PUBLIC_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The small programs that a shell in a Pod can call.
const APPLETS: &[&str] = &[
    "sh", "cat", "echo", "env", "grep", "id", "ls", "mkdir", "nc", "nslookup", "rm", "sleep", "stat", "true",
    "wget",
];

/// Packs images into a folder, which is made if it is not there.
pub fn pack_all(recipes: &[Recipe], folder: &Path) -> Result<Vec<Image>, ImageError> {
    fs::create_dir_all(folder).map_err(io_at(folder))?;
    recipes.iter().map(|recipe| recipe.pack(folder)).collect()
}

/// Berth's two images, for a release.
pub fn release(binaries: &Binaries) -> Result<Vec<Recipe>, ImageError> {
    let version = env!("CARGO_PKG_VERSION");
    [("berth-registry", &binaries.registry), ("berth-operator", &binaries.operator)]
        .into_iter()
        .map(|(name, binary)| {
            let mut contents = Contents::base();
            let path = format!("/usr/local/bin/{name}");
            contents.program(&path, binary)?;
            contents.bytes(PUBLIC_AUTHORITIES, 0o644, super::read(Path::new(PUBLIC_AUTHORITIES))?);
            Ok(recipe(&format!("localhost/{name}:{version}"), &[&path], contents))
        })
        .collect()
}

/// What a cluster needs, and what tests run in it, before Berth comes in.
pub fn node(tools: &Tools) -> Result<Vec<Recipe>, ImageError> {
    let mut coredns = Contents::base();
    coredns.program("/coredns", tools.path("coredns")?)?;
    let mut versitygw = shell()?;
    versitygw.program("/usr/local/bin/versitygw", tools.path("versitygw")?)?;
    Ok(vec![
        recipe("localhost/pause:1", &["/bin/sleep", "1000000000"], shell()?),
        recipe("localhost/busybox:1", &["/bin/sh"], shell()?),
        recipe("localhost/coredns:1", &["/coredns"], coredns),
        recipe("localhost/versitygw:1", &["/usr/local/bin/versitygw"], versitygw),
    ])
}

fn shell() -> Result<Contents, ImageError> {
    let mut contents = Contents::base();
    let busybox = packages::find("busybox").ok_or_else(|| ImageError::Missing("busybox".into()))?;
    contents.program("/bin/busybox", &busybox)?;
    for applet in APPLETS {
        contents.link(&format!("/bin/{applet}"), "busybox");
    }
    Ok(contents)
}

fn recipe(name: &str, entrypoint: &[&str], contents: Contents) -> Recipe {
    Recipe {
        name: name.into(),
        entrypoint: entrypoint.iter().map(|&word| word.into()).collect(),
        // The name makes each image's content its own: the kubelet keeps an image that was once pulled with
        // credentials from Pods that have none, and it tells images apart by content only.
        env: vec!["PATH=/usr/local/bin:/bin".into(), format!("IMAGE={name}")],
        contents,
    }
}
