//! Every input that is kept, without a fuzzer.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::{collections::BTreeSet, fs, path::Path};

use berth_fuzz::TARGETS;

#[test]
fn what_is_kept_breaks_no_promise() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let names = |folder: &Path| -> BTreeSet<_> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    assert_eq!(names(&corpus), TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect());
    for (target, run) in TARGETS {
        let folder = corpus.join(target);
        let inputs = names(&folder);
        assert!(!inputs.is_empty(), "{target}");
        for input in inputs {
            println!("{target}/{input}");
            run(&fs::read(folder.join(input)).unwrap());
        }
    }
}
