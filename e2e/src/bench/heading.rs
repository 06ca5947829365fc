//! What the heading of a table says about the machine and about what was measured.

use std::fs;

/// The model of the processors.
pub(super) fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or("unknown", |(_, model)| model).to_owned()
}

/// How many wanted a processor in the last minute, on average.
pub(super) fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or_default().to_owned()
}

/// The version of a Go module that a `go.mod` requires.
pub(super) fn pinned<'a>(go_mod: &'a str, module: &str) -> &'a str {
    let mut lines = go_mod.lines().map(|line| line.trim().trim_start_matches("require "));
    let version = lines.find_map(|line| line.strip_prefix(module)?.strip_prefix(' ')?.split(' ').next());
    version.unwrap_or("v?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_the_one_that_is_required() {
        let module =
            "tool a.b/c/cmd/x\n\nrequire a.b/other v1.0.0\n\nrequire (\n\ta.b/c v3.1.1 // indirect\n)\n";
        assert_eq!(pinned(module, "a.b/c"), "v3.1.1");
        assert_eq!(pinned(module, "a.b/other"), "v1.0.0");
        assert_eq!(pinned(module, "a.b/d"), "v?");
    }
}
