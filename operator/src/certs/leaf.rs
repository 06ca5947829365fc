//! Server certificates: kept while they are good, issued when core says so.

use std::collections::{BTreeMap, BTreeSet};

use berth_operator_core::certificate::{Renewal, Validity, leaf_renewal};
use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};

use super::{
    Authority, CertificateError,
    pem::{leaf, text},
};

/// A server's certificate and key, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
    /// When it is good.
    pub validity: Validity,
}

impl Issued {
    /// The data of a Secret of type `kubernetes.io/tls`, with the authority's bundle.
    pub fn data(&self, authority: &Authority) -> BTreeMap<String, ByteString> {
        let entry = |key: &str, text: &str| (key.to_owned(), ByteString(text.as_bytes().to_vec()));
        BTreeMap::from([
            entry("tls.crt", &self.certificate),
            entry("tls.key", &self.key),
            entry("ca.crt", authority.bundle().as_pem()),
        ])
    }
}

/// The certificate in `secret`, or a new one if that is missing, unreadable, for other names, of another authority or
/// two thirds through its life. The second value says why it is new.
pub fn ensure_leaf(
    secret: Option<&Secret>,
    authority: &Authority,
    names: &BTreeSet<String>,
    now: Timestamp,
) -> Result<(Issued, Option<Renewal>), CertificateError> {
    let stored = secret.and_then(|secret| {
        let (certificate, key) = (text(secret, "tls.crt").ok()?, text(secret, "tls.key").ok()?);
        rcgen::KeyPair::from_pem(&key).ok()?;
        let leaf = leaf(&certificate, authority.certificate())?;
        Some((Issued { certificate, key, validity: leaf.validity }, leaf))
    });
    match (leaf_renewal(stored.as_ref().map(|(_, leaf)| leaf), names, now), stored) {
        (None, Some((issued, _))) => Ok((issued, None)),
        (renewal, _) => Ok((authority.issue(names, now)?, renewal)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_operator_core::certificate::service_names;
    use jiff::SignedDuration;

    fn at(day: i32) -> Timestamp {
        "2030-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_hours(24) * day
    }

    #[test]
    fn a_certificate_is_kept_until_two_thirds_of_its_life() {
        let (authority, _) = Authority::advance(None, at(0)).unwrap();
        let names = service_names("team-a", "registry");
        let (issued, renewal) = ensure_leaf(None, &authority, &names, at(0)).unwrap();
        assert_eq!(renewal, Some(Renewal::Missing));
        let secret = Secret { data: Some(issued.data(&authority)), ..Secret::default() };
        let (kept, renewal) = ensure_leaf(Some(&secret), &authority, &names, at(59)).unwrap();
        assert_eq!((kept.certificate == issued.certificate, renewal), (true, None));
        let (renewed, renewal) = ensure_leaf(Some(&secret), &authority, &names, at(61)).unwrap();
        assert_eq!((renewed.certificate == issued.certificate, renewal), (false, Some(Renewal::Due)));
        let (other, _) = Authority::advance(None, at(0)).unwrap();
        let (_, renewal) = ensure_leaf(Some(&secret), &other, &names, at(1)).unwrap();
        assert_eq!(renewal, Some(Renewal::AuthorityChanged));
    }
}
