//! libFuzzer over one target, which `BERTH_FUZZ_TARGET` names; `cargo verify --fuzz` builds and runs it.

#![no_main]

use std::sync::LazyLock;

use berth_fuzz::Target;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    // libfuzzer-sys ends the process on every panic, even on one that is caught where it belongs. Panics that come
    // through to it still end the run.
    drop(std::panic::take_hook());
    let name = std::env::var("BERTH_FUZZ_TARGET").unwrap_or_default();
    berth_fuzz::target(&name).unwrap_or_else(|| {
        eprintln!("no target {name:?}: set BERTH_FUZZ_TARGET to one of the folders of the corpus");
        std::process::exit(2);
    })
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET(data));
