//! Three kernel settings of the whole machine that a kubelet changes. The first cluster to come up keeps
//! their values in a file, the last one to go puts them back.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use super::{ClusterError, State};

const CHANGED_BY_KUBELET: &[&str] =
    &["/proc/sys/vm/overcommit_memory", "/proc/sys/kernel/panic", "/proc/sys/kernel/panic_on_oops"];

/// Keeps the present values, unless another cluster's boot did.
pub(super) fn save() -> Result<(), ClusterError> {
    let file = State::saved_sysctls();
    if file.exists() {
        return Ok(());
    }
    let mut values = Map::new();
    for setting in CHANGED_BY_KUBELET {
        let value =
            fs::read_to_string(setting).map_err(|source| ClusterError::io(Path::new(setting), source))?;
        values.insert((*setting).into(), value.trim().into());
    }
    fs::write(&file, Value::Object(values).to_string()).map_err(|source| ClusterError::io(&file, source))
}

/// Puts the kept values back if no cluster is left.
pub(super) fn restore() -> Result<(), ClusterError> {
    let file = State::saved_sysctls();
    if !State::all().is_empty() {
        return Ok(());
    }
    let Ok(text) = fs::read_to_string(&file) else { return Ok(()) };
    let values: Map<String, Value> = serde_json::from_str(&text).unwrap_or_default();
    for (setting, value) in
        values.iter().filter(|(setting, _)| CHANGED_BY_KUBELET.contains(&setting.as_str()))
    {
        fs::write(setting, value.as_str().unwrap_or_default())
            .map_err(|source| ClusterError::io(Path::new(setting), source))?;
    }
    fs::remove_file(&file).map_err(|source| ClusterError::io(&file, source))
}
