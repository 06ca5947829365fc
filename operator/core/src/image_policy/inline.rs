//! From a policy, as it is stored, to the written form that `berth_trust` compiles: what its Secrets hold is put in the
//! place where they are named. What is wrong with it is told in the fields of the policy, wherever it came from.

use std::collections::BTreeMap;

use berth_crds::{
    ImagePolicySpec, SecretReference,
    image_policy::{self as stored, Certificates},
};
use berth_registry_core::policy as written;
use berth_trust::{Flaw, InvalidWritten};

use crate::image_policy::{
    AUTHORITIES, InvalidPolicy, Material, PUBLIC_KEY, Secrets, TIMESTAMP_AUTHORITIES, TRUST_ROOT,
    invalid::spec,
};

/// A policy with everything in it.
pub(super) struct Inlined {
    /// In its written form.
    pub(super) policy: written::Policy,
    /// From the paths of its keys, trust roots and certificates to the fields of the spec that gave them.
    origins: BTreeMap<String, String>,
}

impl Inlined {
    /// Puts the material of `secrets` into a spec.
    pub(super) fn new(spec: &ImagePolicySpec, secrets: &Secrets) -> Result<Self, InvalidPolicy> {
        let mut inliner = Inliner { secrets, origins: BTreeMap::new() };
        let require = spec.require.iter().enumerate();
        let require =
            require.map(|(index, stored)| inliner.requirement(&format!("require[{index}]"), stored));
        let require = require.collect::<Result<_, _>>()?;
        let exceptions = spec.exceptions.iter().map(|stored| written::Exception {
            images: stored.images.clone(),
            reason: stored.reason.clone(),
            owner: stored.owner.clone(),
            expires: stored.expires.0,
        });
        let policy = written::Policy {
            images: spec.images.clone(),
            unmatched: spec.unmatched.map(|unmatched| match unmatched {
                stored::Unmatched::Allow => written::Unmatched::Allow,
                stored::Unmatched::Deny => written::Unmatched::Deny,
            }),
            require,
            exceptions: exceptions.collect(),
        };
        Ok(Self { policy, origins: inliner.origins })
    }

    /// What is wrong with the written form, in the fields of the spec.
    pub(super) fn invalid(&self, error: InvalidWritten) -> InvalidPolicy {
        let InvalidWritten { path, flaw, cause } = error;
        let path = format!("spec.{}", self.origins.get(&path).unwrap_or(&path));
        match flaw {
            Flaw::Field => spec(path, cause),
            Flaw::Key => InvalidPolicy::unusable(PUBLIC_KEY, path, cause),
            Flaw::TrustRoot => InvalidPolicy::unusable(TRUST_ROOT, path, cause),
            Flaw::Certificates => InvalidPolicy::unusable(AUTHORITIES, path, cause),
        }
    }
}

/// Paths are those of the written form, which are the spec's without `spec.`, but for material.
struct Inliner<'a> {
    secrets: &'a Secrets,
    origins: BTreeMap<String, String>,
}

impl Inliner<'_> {
    fn requirement(
        &mut self,
        path: &str,
        requirement: &stored::Requirement,
    ) -> Result<written::Requirement, InvalidPolicy> {
        let stored::Requirement { signature, attestation, digest } = requirement;
        let signature = signature.as_ref().map(|stored| {
            let stored::Signature { threshold, authorities, max_age } = stored;
            Ok(written::Signature {
                threshold: threshold.map(count),
                authorities: self.authorities(&format!("{path}.signature"), authorities)?,
                max_age: max_age.clone(),
            })
        });
        let signature = signature.transpose()?;
        let attestation = attestation.as_ref().map(|stored| {
            let stored::Attestation { predicate_type, threshold, authorities, conditions, max_age } = stored;
            Ok(written::Attestation {
                predicate_type: predicate_type.clone(),
                threshold: threshold.map(count),
                authorities: self.authorities(&format!("{path}.attestation"), authorities)?,
                conditions: conditions.clone(),
                max_age: max_age.clone(),
            })
        });
        Ok(written::Requirement {
            signature,
            attestation: attestation.transpose()?,
            digest: digest.as_ref().map(|stored::NamedByDigest {}| written::NamedByDigest {}),
        })
    }

    fn authorities(
        &mut self,
        path: &str,
        authorities: &[stored::Authority],
    ) -> Result<Vec<written::Authority>, InvalidPolicy> {
        let all = authorities.iter().enumerate();
        all.map(|(index, stored)| self.authority(&format!("{path}.authorities[{index}]"), stored)).collect()
    }

    fn authority(
        &mut self,
        path: &str,
        authority: &stored::Authority,
    ) -> Result<written::Authority, InvalidPolicy> {
        let stored::Authority { name, valid_until, key, keyless, certificate, notation } = authority;
        Ok(written::Authority {
            name: name.clone(),
            valid_until: valid_until.as_ref().map(|time| time.0),
            key: key.as_ref().map(|stored| self.key(&format!("{path}.key"), stored)).transpose()?,
            keyless: keyless
                .as_ref()
                .map(|stored| self.keyless(&format!("{path}.keyless"), stored))
                .transpose()?,
            certificate: certificate
                .as_ref()
                .map(|stored| self.certificate(&format!("{path}.certificate"), stored))
                .transpose()?,
            notation: notation
                .as_ref()
                .map(|stored| self.notation(&format!("{path}.notation"), stored))
                .transpose()?,
        })
    }

    fn key(&mut self, path: &str, key: &stored::Key) -> Result<written::Key, InvalidPolicy> {
        let stored::Key { pem, secret_name, trust_root } = key;
        let from = (pem.as_deref(), secret_name.as_deref());
        Ok(written::Key {
            pem: self.text(path, format!("{path}.pem"), from, PUBLIC_KEY)?,
            trust_root: self.optional_trust_root(path, trust_root.as_ref())?,
        })
    }

    fn keyless(&mut self, path: &str, keyless: &stored::Keyless) -> Result<written::Keyless, InvalidPolicy> {
        let stored::Keyless { issuer, issuer_regex, subject, subject_regex, trust_root } = keyless;
        Ok(written::Keyless {
            issuer: issuer.clone(),
            issuer_regex: issuer_regex.clone(),
            subject: subject.clone(),
            subject_regex: subject_regex.clone(),
            trust_root: self.trust_root(path, trust_root)?,
        })
    }

    fn certificate(
        &mut self,
        path: &str,
        certificate: &stored::Certificate,
    ) -> Result<written::Certificate, InvalidPolicy> {
        let stored::Certificate { authorities, subject, subject_regex, trust_root } = certificate;
        Ok(written::Certificate {
            authorities: self.certificates(&format!("{path}.authorities"), authorities, AUTHORITIES)?,
            subject: subject.clone(),
            subject_regex: subject_regex.clone(),
            trust_root: self.optional_trust_root(path, trust_root.as_ref())?,
        })
    }

    fn notation(
        &mut self,
        path: &str,
        notation: &stored::Notation,
    ) -> Result<written::Notation, InvalidPolicy> {
        let stored::Notation { trust_store, identities, timestamp_authorities } = notation;
        let timestamps = timestamp_authorities.as_ref().map(|stored| {
            self.certificates(&format!("{path}.timestampAuthorities"), stored, TIMESTAMP_AUTHORITIES)
        });
        Ok(written::Notation {
            timestamp_authorities: timestamps.transpose()?,
            trust_store: self.certificates(&format!("{path}.trustStore"), trust_store, AUTHORITIES)?,
            identities: identities.clone(),
        })
    }

    fn optional_trust_root(
        &mut self,
        path: &str,
        stored: Option<&SecretReference>,
    ) -> Result<Option<String>, InvalidPolicy> {
        stored.map(|stored| self.trust_root(path, stored)).transpose()
    }

    fn trust_root(&mut self, path: &str, stored: &SecretReference) -> Result<String, InvalidPolicy> {
        let path = format!("{path}.trustRoot");
        self.text(&path, path.clone(), (None, Some(&stored.secret_name)), TRUST_ROOT)
    }

    fn certificates(
        &mut self,
        path: &str,
        stored: &Certificates,
        key: &str,
    ) -> Result<String, InvalidPolicy> {
        let Certificates { pem, secret_name } = stored;
        self.text(path, path.to_owned(), (pem.as_deref(), secret_name.as_deref()), key)
    }

    /// Public text from the policy itself or from a key of a Secret, for the place `written`.
    fn text(
        &mut self,
        path: &str,
        written: String,
        (pem, secret): (Option<&str>, Option<&str>),
        key: &str,
    ) -> Result<String, InvalidPolicy> {
        let (origin, text) = match (pem, secret) {
            (Some(pem), None) => (format!("{path}.pem"), pem),
            (None, Some(secret)) => {
                let origin = format!("{path}.secretName");
                let text = Material::value(self.secrets, &format!("spec.{origin}"), secret, key)?;
                (origin, text)
            }
            _ => return Err(spec(format!("spec.{path}"), "write exactly one of pem and secretName")),
        };
        self.origins.insert(written, origin);
        Ok(text.to_owned())
    }
}

/// A negative number is as little as none.
fn count(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}
