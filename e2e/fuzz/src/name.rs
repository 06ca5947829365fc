//! Names of images, and the globs and small words of policies and settings. Input: a text, a pattern.

use std::{fmt::Debug, str::FromStr};

use berth_registry_core::{Age, Digest, ImageReference, Pattern, Reference, RepositoryName, Size, Tag};
use berth_trust::ImagePattern;

pub(crate) fn run(mut input: &[u8]) {
    let (Some(name), Some(pattern)) = (crate::text(&mut input), crate::text(&mut input)) else { return };
    same::<Age>(name);
    same::<Digest>(name);
    same::<Reference>(name);
    same::<RepositoryName>(name);
    same::<Size>(name);
    same::<Tag>(name);
    drop(pattern.parse::<ImagePattern>());
    let pattern = same::<Pattern>(pattern);
    let Some(image) = same::<ImageReference>(name) else { return };
    same::<ImageReference>(&image.pinned(Digest::sha256(name.as_bytes())).to_string());
    let name = image.name();
    assert_eq!(name.to_ascii_lowercase(), name);
    assert!(name.parse::<Pattern>().is_ok_and(|own| own.matches(&name)));
    let Some(pattern) = pattern else { return };
    let wider = pattern.as_str().replace("**", "*").replace('*', "**").parse::<Pattern>();
    if pattern.matches(&name) {
        assert!(wider.is_ok_and(|wider| wider.matches(&name)) || pattern.as_str().len() > 256);
    } else {
        assert_ne!(pattern.as_str(), name);
    }
}

/// What is read is written such that it is read as the same.
fn same<T: FromStr + ToString + PartialEq + Debug>(text: &str) -> Option<T> {
    let read: T = text.parse().ok()?;
    assert_eq!(read.to_string().parse().ok().as_ref(), Some(&read));
    Some(read)
}
