//! The fuzz targets (`fuzz/`): a bounded number of inputs for each in every verification, the kept ones and mutations
//! that are the same each time, so that no change fails by chance. By hand, one target for as long as wanted.

use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::{fs, io};

use crate::packages;
use crate::release::{self, own_folder, workspace};

/// Inputs a target.
const RUNS: &[&str] = &["-runs=1000", "-seed=1", "-verbosity=0"];

/// What no input may exceed: seconds, and memory at once and in one piece. Inputs are small.
const LIMITS: &[&str] = &["-timeout=60", "-rss_limit_mb=512", "-malloc_limit_mb=64", "-max_len=16384"];

/// One command a target; `arguments` name one, and libFuzzer's options or a file for it. What breaks a target is written to
/// `target/fuzz`, and so is, by hand, what takes new branches: `-merge=1` brings that into the corpus.
pub fn commands(arguments: &[String]) -> Result<Vec<Command>, Box<dyn Error>> {
    packages::ensure(packages::FUZZING)?;
    let fuzzer = release::build_fuzzer()?;
    let corpus = own_folder().join("fuzz/corpus");
    let out = workspace().join("target/fuzz");
    let command = |target: &str| {
        let mut command = Command::new(&fuzzer);
        command.env("BERTH_FUZZ_TARGET", target).args(LIMITS);
        command.arg(format!("-artifact_prefix={}/{target}-", out.display()));
        command
    };
    let Some((target, options)) = arguments.split_first() else {
        fs::create_dir_all(&out)?;
        let bounded = |target: String| {
            // Not as a folder: libFuzzer would add to it.
            let folder = corpus.join(&target);
            let inputs = names(&folder)?.into_iter().map(|name| format!("{}/{name}", folder.display()));
            let inputs = inputs.collect::<Vec<_>>().join(",");
            let mut command = command(&target);
            command.args(RUNS).arg(format!("-seed_inputs={inputs}"));
            Ok(command)
        };
        return names(&corpus)?.into_iter().map(bounded).collect();
    };
    let (found, kept) = (out.join(target), corpus.join(target));
    fs::create_dir_all(&found)?;
    let mut command = command(target);
    command.args(options);
    if options.iter().all(|option| option.starts_with('-')) {
        let merging = options.iter().any(|option| option == "-merge=1");
        command.args(if merging { [kept, found] } else { [found, kept] });
    }
    Ok(vec![command])
}

/// What is in a folder, sorted.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = entries.collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable();
    Ok(names)
}
