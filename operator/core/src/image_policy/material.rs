//! What policies take from Secrets: some named keys with public text in them, never a whole Secret and never a private
//! key. Small enough to be written down beside a decision.

use std::collections::{BTreeMap, BTreeSet};

use berth_crds::{ImagePolicySpec, image_policy::Requirement};
use serde::{Deserialize, Serialize};

use crate::image_policy::InvalidPolicy;

/// A public key, as `cosign generate-key-pair` names the file.
pub const PUBLIC_KEY: &str = "cosign.pub";

/// Every key of a Secret that is read.
const READ: &[&str] = &[PUBLIC_KEY];

/// The longest value that is kept, in bytes.
const MAX_VALUE: usize = 128 * 1024;

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
        let read = data.into_iter().filter(|(key, _)| READ.contains(&key.as_str()));
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
            Some(Self::Found(values)) => match values.get(key) {
                Some(value) => Ok(value),
                None => {
                    Err(InvalidPolicy::Key { path, cause: format!("the Secret {name} has no key {key}") })
                }
            },
            Some(Self::NotManaged) => Err(InvalidPolicy::NamespaceNotManaged { path }),
            Some(Self::Unreadable(cause)) => {
                Err(InvalidPolicy::SecretUnreadable { path, secret, cause: cause.clone() })
            }
            Some(Self::NotFound) | None => Err(InvalidPolicy::SecretNotFound { path, secret }),
        }
    }
}

/// As text. What is not UTF-8, or too long, is as little of use as nothing.
fn public(value: &[u8]) -> String {
    let text = if value.len() > MAX_VALUE { "".into() } else { String::from_utf8_lossy(value) };
    if text.contains("PRIVATE KEY-----") { PRIVATE.to_owned() } else { text.into_owned() }
}

/// Names of the Secrets that a policy takes something from.
pub fn secrets(spec: &ImagePolicySpec) -> BTreeSet<&str> {
    let authorities = spec.require.iter().flat_map(|Requirement { signature, attestation, digest: _ }| {
        let signature = signature.iter().flat_map(|signature| &signature.authorities);
        signature.chain(attestation.iter().flat_map(|attestation| &attestation.authorities))
    });
    authorities.filter_map(|authority| authority.key.secret_name.as_deref()).collect()
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
    #[case::of_others("password", b"secret", Material::Found(BTreeMap::new()))]
    #[case::beside_it("cosign.key", b"secret", Material::Found(BTreeMap::new()))]
    fn what_is_read(#[case] key: &str, #[case] value: &[u8], #[case] expected: Material) {
        assert_eq!(of(key, value), expected);
    }

    #[test]
    fn values_are_bounded() {
        let longest = "a".repeat(MAX_VALUE);
        assert_eq!(of(PUBLIC_KEY, longest.as_bytes()), found(PUBLIC_KEY, &longest));
        assert_eq!(of(PUBLIC_KEY, format!("{longest}a").as_bytes()), found(PUBLIC_KEY, ""));
    }
}
