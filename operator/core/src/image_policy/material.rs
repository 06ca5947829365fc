//! What policies take from Secrets: some named keys with public text in them, never a whole Secret and never a private
//! key. Small enough to be written down beside a decision.

use std::collections::{BTreeMap, BTreeSet};

use berth_crds::{
    ImagePolicySpec, SecretReference,
    image_policy::{Authority, Certificate, Key, Notation, Requirement},
};
use berth_trust::holds_private_key;
use serde::{Deserialize, Serialize};

use crate::image_policy::InvalidPolicy;

/// A public key, as `cosign generate-key-pair` names the file.
pub const PUBLIC_KEY: &str = "cosign.pub";

/// A sigstore instance: its authorities and logs, as `cosign trusted-root create` names the file.
pub const TRUST_ROOT: &str = "trusted_root.json";

/// Certificates of authorities.
pub const AUTHORITIES: &str = "ca.crt";

/// Certificates of timestamp authorities.
pub const TIMESTAMP_AUTHORITIES: &str = "tsa.crt";

/// Every key of a Secret that is read.
const READ: &[&str] = &[PUBLIC_KEY, TRUST_ROOT, AUTHORITIES, TIMESTAMP_AUTHORITIES];

/// The longest value that is kept, in bytes.
const MAX_VALUE: usize = 256 * 1024;

/// What stands in for a private key, so that it is refused and yet not kept.
const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n";

/// What became of a Secret that a policy names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Material {
    /// It is there, with these of the keys that are read.
    Found(BTreeMap<String, String>),
    /// It is not there.
    NotFound,
    /// It may not be read, because the operator does not work in that namespace.
    NotManaged,
    /// The API server was asked in vain.
    Unreadable(String),
}

impl Material {
    /// Of the data of a Secret, what policies may need.
    pub fn of<'a>(data: impl IntoIterator<Item = (&'a String, &'a [u8])>) -> Self {
        let read = data.into_iter();
        let read = read.filter(|(key, value)| READ.contains(&key.as_str()) && value.len() <= MAX_VALUE);
        Self::Found(read.map(|(key, value)| (key.clone(), public(value))).collect())
    }

    /// The value of `key` in the Secret `name`, which the field at `path` names.
    pub(super) fn value<'a>(
        secrets: &'a BTreeMap<String, Self>,
        path: &str,
        name: &str,
        key: &str,
    ) -> Result<&'a str, InvalidPolicy> {
        let (path, secret) = (path.to_owned(), name.to_owned());
        match secrets.get(name) {
            Some(Self::Found(values)) => values.get(key).map(String::as_str).ok_or_else(|| {
                let size = MAX_VALUE / 1024;
                let cause = format!("the Secret {name} has no key {key} of at most {size} KiB");
                InvalidPolicy::unusable(key, path, cause)
            }),
            Some(Self::NotManaged) => Err(InvalidPolicy::NamespaceNotManaged { path }),
            Some(Self::Unreadable(cause)) => {
                Err(InvalidPolicy::SecretUnreadable { path, secret, cause: cause.clone() })
            }
            Some(Self::NotFound) | None => Err(InvalidPolicy::SecretNotFound { path, secret }),
        }
    }
}

/// As text. What is not UTF-8 is of no use to anybody.
fn public(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    if holds_private_key(&text) { PRIVATE.to_owned() } else { text.into_owned() }
}

/// Names of the Secrets that a policy takes something from.
pub fn secrets(spec: &ImagePolicySpec) -> BTreeSet<&str> {
    let authorities = spec.require.iter().flat_map(|Requirement { signature, attestation, digest: _ }| {
        let signature = signature.iter().flat_map(|signature| &signature.authorities);
        signature.chain(attestation.iter().flat_map(|attestation| &attestation.authorities))
    });
    authorities.flat_map(secrets_of).collect()
}

fn secrets_of(authority: &Authority) -> impl Iterator<Item = &str> {
    fn name(reference: &SecretReference) -> &str {
        &reference.secret_name
    }
    let Authority { name: _, valid_until: _, key, keyless, certificate, notation } = authority;
    let key = key.iter().flat_map(|Key { pem: _, secret_name, trust_root }| {
        [secret_name.as_deref(), trust_root.as_ref().map(name)]
    });
    let keyless = keyless.iter().map(|keyless| Some(name(&keyless.trust_root)));
    let certificate = certificate.iter().flat_map(|certificate| {
        let Certificate { authorities, subject: _, subject_regex: _, trust_root } = certificate;
        [authorities.secret_name.as_deref(), trust_root.as_ref().map(name)]
    });
    let notation = notation.iter().flat_map(|notation| {
        let Notation { trust_store, identities: _, timestamp_authorities } = notation;
        let timestamps = timestamp_authorities.as_ref().and_then(|from| from.secret_name.as_deref());
        [trust_store.secret_name.as_deref(), timestamps]
    });
    key.chain(keyless).chain(certificate).chain(notation).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn of(key: &str, value: &[u8]) -> Material {
        Material::of([(&key.to_owned(), value)])
    }

    fn found(key: &str, value: &str) -> Material {
        Material::Found([(key.to_owned(), value.to_owned())].into())
    }

    #[rstest]
    #[case::public(PUBLIC_KEY, b"text", found(PUBLIC_KEY, "text"))]
    #[case::no_text(PUBLIC_KEY, &[0xff], found(PUBLIC_KEY, "\u{fffd}"))]
    #[case::private(
        PUBLIC_KEY,
        b"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nsecret",
        found(PUBLIC_KEY, PRIVATE)
    )]
    #[case::trust_root(TRUST_ROOT, b"{}", found(TRUST_ROOT, "{}"))]
    #[case::authorities(AUTHORITIES, b"text", found(AUTHORITIES, "text"))]
    #[case::timestamps(
        TIMESTAMP_AUTHORITIES,
        b"-----BEGIN PRIVATE KEY-----",
        found(TIMESTAMP_AUTHORITIES, PRIVATE)
    )]
    #[case::its_neighbour("tls.key", b"secret", Material::Found(BTreeMap::new()))]
    #[case::of_others("password", b"secret", Material::Found(BTreeMap::new()))]
    #[case::beside_it("cosign.key", b"secret", Material::Found(BTreeMap::new()))]
    fn what_is_read(#[case] key: &str, #[case] value: &[u8], #[case] expected: Material) {
        assert_eq!(of(key, value), expected);
    }

    #[test]
    fn values_are_bounded() {
        let longest = "a".repeat(MAX_VALUE);
        assert_eq!(of(PUBLIC_KEY, longest.as_bytes()), found(PUBLIC_KEY, &longest));
        assert_eq!(of(PUBLIC_KEY, format!("{longest}a").as_bytes()), Material::Found(BTreeMap::new()));
    }
}
