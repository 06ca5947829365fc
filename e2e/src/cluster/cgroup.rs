//! One control group for everything that a cluster runs: daemons in `NAME/sys`, Pods in `NAME/kubepods`.
//! It makes the memory figure exact and proves after the end that nothing was left running.
//!
//! Both layouts work: a folder per controller (v1 and hybrid), or one tree (v2).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ClusterError;
use crate::wait::wait_for;

const ROOT: &str = "/sys/fs/cgroup";

/// The control group of one cluster.
#[derive(Debug, Clone)]
pub(super) struct Cgroup {
    name: String,
}

impl Cgroup {
    pub(super) fn named(name: &str) -> Self {
        Self { name: format!("berth-{name}") }
    }

    /// The path that the kubelet gets as its root.
    pub(super) fn path(&self) -> String {
        format!("/{}", self.name)
    }

    /// Makes the group; returns the files that a process writes its number to in order to join.
    pub(super) fn create(&self) -> Result<Vec<PathBuf>, ClusterError> {
        let mut joins = Vec::new();
        for tree in trees() {
            let group = tree.join(&self.name);
            let daemons = group.join("sys");
            for (parent, folder) in [(&tree, &group), (&group, &daemons)] {
                fs::create_dir_all(folder).map_err(|source| ClusterError::io(folder, source))?;
                inherit_cpus(parent, folder)?;
            }
            if tree == Path::new(ROOT) {
                for parent in [&tree, &group] {
                    let file = parent.join("cgroup.subtree_control");
                    fs::write(&file, "+cpu +cpuset +io +memory +pids")
                        .map_err(|source| ClusterError::io(&file, source))?;
                }
            }
            joins.push(daemons.join("cgroup.procs"));
        }
        Ok(joins)
    }

    /// Removes the group, which can only be done once the last process in it is gone.
    pub(super) fn remove(&self) -> Result<(), ClusterError> {
        let groups: Vec<PathBuf> = trees().into_iter().map(|tree| tree.join(&self.name)).collect();
        wait_for("the control group's last process to end", Duration::from_secs(20), || {
            for group in &groups {
                remove_tree(group);
            }
            match groups.iter().find(|group| group.exists()) {
                Some(group) => Err(format!("{} is still in use", group.display())),
                None => Ok(()),
            }
        })?;
        Ok(())
    }

    /// The most memory that all processes together held at any time, page cache included, in bytes.
    pub(super) fn memory_peak(&self) -> Option<u64> {
        ["memory/NAME/memory.max_usage_in_bytes", "NAME/memory.peak"]
            .iter()
            .map(|file| Path::new(ROOT).join(file.replace("NAME", &self.name)))
            .find_map(|file| fs::read_to_string(file).ok())
            .and_then(|bytes| bytes.trim().parse().ok())
    }
}

/// The roots of the machine's control group trees.
fn trees() -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    if root.join("cgroup.controllers").exists() {
        return vec![root.to_owned()];
    }
    let folders = fs::read_dir(root).into_iter().flatten().flatten();
    folders
        // Links such as `cpu` → `cpu,cpuacct` name a tree twice.
        .filter(|folder| folder.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|folder| folder.path())
        .filter(|folder| folder.join("cgroup.procs").exists())
        .collect()
}

/// A new cpuset of version 1 has neither processors nor memory, and nothing can run in it.
fn inherit_cpus(parent: &Path, folder: &Path) -> Result<(), ClusterError> {
    if !folder.parent().is_some_and(|tree| tree.starts_with("/sys/fs/cgroup/cpuset")) {
        return Ok(());
    }
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let (from, to) = (parent.join(file), folder.join(file));
        fs::copy(&from, &to).map_err(|source| ClusterError::io(&to, source))?;
    }
    Ok(())
}

/// Removes the folders of a control group, the innermost first; its files go with them.
fn remove_tree(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}
