//! From what a policy requires, as it is written, to what `berth_trust` judges by. Every error names the field.

use std::{fmt::Display, str::FromStr};

use berth_crds::image_policy as written;
use berth_registry_core::Age;
use berth_trust::{Condition, Exception, ImagePattern, Quorum, Requirement};

use crate::image_policy::{InvalidPolicy, Secrets, authority::authority, invalid::spec, scope::pattern};

/// The requirement at `path`.
pub(super) fn requirement(
    path: &str,
    requirement: &written::Requirement,
    secrets: &Secrets,
) -> Result<Requirement, InvalidPolicy> {
    match requirement {
        written::Requirement { signature: Some(signature), attestation: None, digest: None } => {
            let written::Signature { threshold, authorities, max_age } = signature;
            let path = format!("{path}.signature");
            quorum(&path, *threshold, authorities, max_age.as_deref(), secrets).map(Requirement::Signature)
        }
        written::Requirement { signature: None, attestation: Some(attestation), digest: None } => {
            let written::Attestation { predicate_type, threshold, authorities, conditions, max_age } =
                attestation;
            let path = format!("{path}.attestation");
            if predicate_type.is_empty() {
                return Err(spec(format!("{path}.predicateType"), "write the type of the statement"));
            }
            let conditions = conditions.iter().enumerate().map(|(index, text)| {
                let path = format!("{path}.conditions[{index}]");
                Condition::compile(text).map_err(|error| spec(path, error))
            });
            Ok(Requirement::Attestation {
                predicate_type: predicate_type.clone(),
                conditions: conditions.collect::<Result<_, _>>()?,
                quorum: quorum(&path, *threshold, authorities, max_age.as_deref(), secrets)?,
            })
        }
        written::Requirement {
            signature: None,
            attestation: None,
            digest: Some(written::NamedByDigest {}),
        } => Ok(Requirement::Digest),
        _ => Err(spec(path, "write exactly one of signature, attestation and digest")),
    }
}

fn quorum(
    path: &str,
    threshold: Option<i32>,
    authorities: &[written::Authority],
    max_age: Option<&str>,
    secrets: &Secrets,
) -> Result<Quorum, InvalidPolicy> {
    let authorities = authorities
        .iter()
        .enumerate()
        .map(|(index, written)| authority(&format!("{path}.authorities[{index}]"), written, secrets));
    let max_age = max_age.map(|text| parse::<Age>(format!("{path}.maxAge"), text)).transpose()?;
    // A negative number is as little as none.
    let threshold = usize::try_from(threshold.unwrap_or(1)).unwrap_or(0);
    Quorum::new(threshold, authorities.collect::<Result<_, _>>()?, max_age.map(Age::as_duration))
        .map_err(|error| spec(path, error))
}

/// The exception at `path`.
pub(super) fn exception(path: &str, exception: &written::Exception) -> Result<Exception, InvalidPolicy> {
    let written::Exception { images, reason, owner, expires } = exception;
    for (field, text) in [("reason", reason), ("owner", owner)] {
        if text.trim().is_empty() {
            return Err(spec(
                format!("{path}.{field}"),
                "somebody has to answer for an exception: fill it in",
            ));
        }
    }
    if images.is_empty() {
        return Err(spec(format!("{path}.images"), "write at least one pattern"));
    }
    let images = images.iter().enumerate().map(|(index, text)| {
        let path = format!("{path}.images[{index}]");
        let (name, digest) =
            text.split_once('@').map_or((text.as_str(), None), |(name, digest)| (name, Some(digest)));
        let name = pattern(&path, name)?;
        let digest = digest.map(|digest| format!("@{digest}")).unwrap_or_default();
        parse::<ImagePattern>(path, &format!("{}{digest}", name.as_str()))
    });
    Ok(Exception {
        images: images.collect::<Result<_, _>>()?,
        reason: reason.clone(),
        owner: owner.clone(),
        expires: expires.0,
    })
}

fn parse<T: FromStr<Err: Display>>(path: String, text: &str) -> Result<T, InvalidPolicy> {
    text.parse().map_err(|error| spec(path, error))
}
