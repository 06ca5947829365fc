//! Everything that Berth reads from strangers, as functions of bytes that panic when a promise is broken: no panic, no
//! boundless time or memory, and what each target asserts besides. `main` has libFuzzer make up the bytes; the corpus
//! that it has grown, `corpus/TARGET/`, is also an ordinary test.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "panicking is how a target tells")]

mod anchor;
mod condition;
mod configuration;
mod evidence;
mod image_policy;
mod kept;
mod manifest;
mod name;
mod notation;
mod review;
mod statement;

/// Takes one input.
pub type Target = fn(&[u8]);

/// All of them; each has a folder of this name in the corpus.
pub const TARGETS: [(&str, Target); 11] = [
    ("anchor", anchor::run),
    ("condition", condition::run),
    ("configuration", configuration::run),
    ("evidence", evidence::run),
    ("image-policy", image_policy::run),
    ("kept", kept::run),
    ("manifest", manifest::run),
    ("name", name::run),
    ("notation", notation::run),
    ("review", review::run),
    ("statement", statement::run),
];

/// The target of a name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}

/// Inputs of several parts are divided by this line, so that mutations of one part leave the others alone.
const DIVIDER: &[u8] = b"\n%%\n";

/// The next part of an input; the rest stays.
fn part<'a>(input: &mut &'a [u8]) -> &'a [u8] {
    let at = input.windows(DIVIDER.len()).position(|window| window == DIVIDER);
    let (part, rest) = at.map_or((*input, &[][..]), |at| (&input[..at], &input[at + DIVIDER.len()..]));
    *input = rest;
    part
}

/// The next part, if it is text.
fn text<'a>(input: &mut &'a [u8]) -> Option<&'a str> {
    str::from_utf8(part(input)).ok()
}
