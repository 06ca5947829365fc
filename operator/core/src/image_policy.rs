//! From an `ImagePolicy`, as it is stored, to rules that can be applied to a review. Whatever is wrong with a policy, it
//! has rules: it then governs at least what it says it governs, and lets nothing pass.

mod inline;
mod invalid;
mod material;
mod scope;
mod words;

use std::collections::BTreeMap;

use berth_crds::{ImagePolicySpec, image_policy as stored};
use berth_registry_core::{Pattern, policy};
use berth_trust::{Policy, patterns};

use crate::admission::{Mode, Uncheckable};

use inline::Inlined;

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
            Some(stored::Uncheckable::Warn) => Uncheckable::Warn,
            Some(stored::Uncheckable::Deny) | None => Uncheckable::Deny,
        };
        let images = match patterns(&spec.images) {
            Ok(images) => images,
            Err(error) => {
                let path = format!("spec.{}", error.path);
                return Self { mode, ..Self::broken(invalid::spec(path, error.cause)) };
            }
        };
        let images = match spec.unmatched {
            Some(stored::Unmatched::Deny) => every_image(),
            Some(stored::Unmatched::Allow) | None => images,
        };
        Self { mode, uncheckable, images, policy: policy(spec, secrets) }
    }

    /// The rules of a policy whose own scope is not known: it governs every image and lets none pass.
    pub fn broken(error: InvalidPolicy) -> Self {
        let (mode, uncheckable) = (Mode::Enforce, Uncheckable::Deny);
        Self { mode, uncheckable, images: every_image(), policy: Err(error) }
    }
}

/// A policy in the form that needs no Secrets any more, for whoever judges elsewhere.
pub fn written(spec: &ImagePolicySpec, secrets: &Secrets) -> Result<policy::Policy, InvalidPolicy> {
    Inlined::new(spec, secrets).map(|inlined| inlined.policy)
}

fn every_image() -> Vec<Pattern> {
    "**".parse().into_iter().collect()
}

/// The mode that a policy writes.
pub fn mode(mode: stored::Mode) -> Mode {
    match mode {
        stored::Mode::Enforce => Mode::Enforce,
        stored::Mode::Warn => Mode::Warn,
        stored::Mode::Audit => Mode::Audit,
    }
}

fn policy(policy: &ImagePolicySpec, secrets: &Secrets) -> Result<Policy, InvalidPolicy> {
    for (path, written) in [("spec.namespaces", &policy.namespaces), ("spec.objects", &policy.objects)] {
        written.as_ref().map_or(Ok(()), |written| selector(path, written).map(drop))?;
    }
    let inlined = Inlined::new(policy, secrets)?;
    Policy::compile(&inlined.policy).map_err(|error| inlined.invalid(error))
}

#[cfg(test)]
mod tests;
