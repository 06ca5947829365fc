//! From an `ImagePolicy`, as it is stored, to rules that can be applied to a review. Whatever is wrong with a policy, it
//! has rules: it then governs at least what it says it governs, and lets nothing pass.

mod authority;
mod invalid;
mod material;
mod requirement;
mod scope;
mod words;

use std::collections::BTreeMap;

use berth_crds::{ImagePolicySpec, image_policy as written};
use berth_registry_core::Pattern;
use berth_trust::{Policy, Unmatched};

use crate::admission::{Mode, Uncheckable};

use invalid::spec;
use requirement::{exception, requirement};
use scope::patterns;

pub use invalid::InvalidPolicy;
pub use material::{AUTHORITIES, Material, PUBLIC_KEY, TIMESTAMP_AUTHORITIES, TRUST_ROOT, secrets};
pub use scope::selector;
pub use words::summary;

/// What became of each Secret that a policy names, by its name.
pub type Secrets = BTreeMap<String, Material>;

/// What a policy does to a review.
#[derive(Clone, Debug)]
pub struct Rules {
    /// How much it insists.
    pub mode: Mode,
    /// What it means that an image could not be checked.
    pub uncheckable: Uncheckable,
    /// Which images it governs, by normalised `host/repository`.
    pub images: Vec<Pattern>,
    /// What such an image must show.
    pub policy: Result<Policy, InvalidPolicy>,
}

impl Rules {
    /// Reads a spec, given what became of each of its [`secrets`].
    pub fn new(spec: &ImagePolicySpec, secrets: &Secrets) -> Self {
        let mode = mode(spec.mode);
        let uncheckable = match spec.uncheckable {
            Some(written::Uncheckable::Warn) => Uncheckable::Warn,
            Some(written::Uncheckable::Deny) | None => Uncheckable::Deny,
        };
        let unmatched = match spec.unmatched {
            Some(written::Unmatched::Deny) => Unmatched::Deny,
            Some(written::Unmatched::Allow) | None => Unmatched::Allow,
        };
        let images = match patterns(&spec.images) {
            Ok(images) => images,
            Err(error) => return Self { mode, ..Self::broken(error) },
        };
        let governed = if unmatched == Unmatched::Deny { every_image() } else { images.clone() };
        Self { mode, uncheckable, images: governed, policy: policy(spec, images, unmatched, secrets) }
    }

    /// The rules of a policy whose own scope is not known: it governs every image and lets none pass.
    pub fn broken(error: InvalidPolicy) -> Self {
        let (mode, uncheckable) = (Mode::Enforce, Uncheckable::Deny);
        Self { mode, uncheckable, images: every_image(), policy: Err(error) }
    }
}

fn every_image() -> Vec<Pattern> {
    "**".parse().into_iter().collect()
}

/// The mode that a policy writes.
pub fn mode(mode: written::Mode) -> Mode {
    match mode {
        written::Mode::Enforce => Mode::Enforce,
        written::Mode::Warn => Mode::Warn,
        written::Mode::Audit => Mode::Audit,
    }
}

fn policy(
    policy: &ImagePolicySpec,
    images: Vec<Pattern>,
    unmatched: Unmatched,
    secrets: &Secrets,
) -> Result<Policy, InvalidPolicy> {
    for (path, written) in [("spec.namespaces", &policy.namespaces), ("spec.objects", &policy.objects)] {
        written.as_ref().map_or(Ok(()), |written| selector(path, written).map(drop))?;
    }
    let requirements = policy.require.iter().enumerate();
    let requirements =
        requirements.map(|(index, written)| requirement(&format!("spec.require[{index}]"), written, secrets));
    let exceptions = policy.exceptions.iter().enumerate();
    let exceptions =
        exceptions.map(|(index, written)| exception(&format!("spec.exceptions[{index}]"), written));
    Policy::new(
        images,
        unmatched,
        requirements.collect::<Result<_, _>>()?,
        exceptions.collect::<Result<_, _>>()?,
    )
    .map_err(|error| spec("spec.require", error))
}

#[cfg(test)]
mod tests;
