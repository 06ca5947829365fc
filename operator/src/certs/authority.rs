//! The certificate authority: read from its Secret, created, announced, promoted.

use std::{collections::BTreeSet, time::SystemTime};

use berth_operator_core::certificate::{AUTHORITY_LIFE, AuthorityStep, LEAF_LIFE, Validity, authority_step};
use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};

use super::{
    AUTHORITY_SECRET, Bundle, CertificateError, Issued,
    pem::{certificates, is_key_of, text, validity},
};

/// A certificate and its key, as PEM.
#[derive(Clone)]
struct Pair {
    certificate: String,
    key: String,
}

impl Pair {
    fn is(&self, certificate: &str) -> bool {
        self.certificate.trim() == certificate.trim()
    }
}

/// The authority in use, the next one if it was announced, and former ones that are still trusted.
#[derive(Clone)]
pub struct Authority {
    active: Pair,
    next: Option<Pair>,
    former: Vec<String>,
}

impl Authority {
    /// Reads the Secret.
    pub fn read(secret: &Secret) -> Result<Self, CertificateError> {
        let active = Pair { certificate: text(secret, "tls.crt")?, key: text(secret, "tls.key")? };
        KeyPair::from_pem(&active.key)?;
        if validity(&active.certificate).is_none() {
            return Err(CertificateError::Secret { secret: AUTHORITY_SECRET.to_owned(), key: "tls.crt" });
        }
        let next = match (text(secret, "next.crt"), text(secret, "next.key")) {
            (Ok(certificate), Ok(key)) => Some(Pair { certificate, key }),
            _ => None,
        };
        // A Secret that somebody has put back can hold as the next one what signs already, or what cannot sign.
        let next =
            next.filter(|next| !next.is(&active.certificate) && is_key_of(&next.key, &next.certificate));
        let known = |certificate: &str| {
            active.is(certificate) || next.as_ref().is_some_and(|next| next.is(certificate))
        };
        let trusted = certificates(&text(secret, "ca.crt").unwrap_or_default());
        let former = trusted.into_iter().map(|(pem, _)| pem).filter(|pem| !known(pem)).collect();
        Ok(Self { active, next, former })
    }

    /// Takes the step that is due, if any. `current` is what the Secret holds; what cannot be read counts as absent.
    pub fn advance(current: Option<Self>, now: Timestamp) -> Result<(Self, AuthorityStep), CertificateError> {
        let at = |pair: &Pair| validity(&pair.certificate);
        let active = current.as_ref().and_then(|authority| at(&authority.active));
        let next = current.as_ref().and_then(|authority| authority.next.as_ref()).and_then(at);
        let step = authority_step(active, next, now);
        let advanced = match (step, current) {
            (AuthorityStep::Keep, Some(authority)) => authority,
            (AuthorityStep::Announce, Some(authority)) => Self { next: Some(make(now)?), ..authority },
            (AuthorityStep::Promote, Some(Self { active, next: Some(next), former })) => {
                Self { active: next, next: None, former: [vec![active.certificate], former].concat() }
            }
            (_, before) => Self {
                active: make(now)?,
                next: None,
                former: before.map(|before| vec![before.active.certificate]).unwrap_or_default(),
            },
        };
        Ok((advanced.without_expired(now), step))
    }

    fn without_expired(mut self, now: Timestamp) -> Self {
        self.former.retain(|pem| validity(pem).is_some_and(|validity| now < validity.not_after));
        self
    }

    /// What clients are to trust.
    pub fn bundle(&self) -> Bundle {
        let next = self.next.as_ref().map(|next| next.certificate.as_str());
        let all = std::iter::once(self.active.certificate.as_str()).chain(next);
        let lines: Vec<_> = all.chain(self.former.iter().map(String::as_str)).map(str::trim).collect();
        Bundle::new(&(lines.join("\n") + "\n"))
    }

    /// When the one in use ends.
    pub fn validity(&self) -> Option<Validity> {
        validity(&self.active.certificate)
    }

    /// The certificate in use, as PEM.
    pub(super) fn certificate(&self) -> &str {
        &self.active.certificate
    }

    /// The Secret's data.
    pub(super) fn data(&self) -> std::collections::BTreeMap<String, ByteString> {
        let entry = |key: &str, text: &str| (key.to_owned(), ByteString(text.as_bytes().to_vec()));
        let mut data = std::collections::BTreeMap::from([
            entry("tls.crt", &self.active.certificate),
            entry("tls.key", &self.active.key),
            entry("ca.crt", self.bundle().as_pem()),
        ]);
        if let Some(next) = &self.next {
            data.extend([entry("next.crt", &next.certificate), entry("next.key", &next.key)]);
        }
        data
    }

    /// Signs a new key for a server of these names.
    pub fn issue(&self, names: &BTreeSet<String>, now: Timestamp) -> Result<Issued, CertificateError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let issuer =
            Issuer::from_ca_cert_pem(&self.active.certificate, KeyPair::from_pem(&self.active.key)?)?;
        // The fullest name first: some clients show only the first.
        let mut ordered: Vec<_> = names.iter().cloned().collect();
        ordered.sort_by_key(|name| std::cmp::Reverse(name.len()));
        let mut params = CertificateParams::new(ordered)?;
        params.distinguished_name = name("Berth");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let validity = set_validity(&mut params, now, LEAF_LIFE)?;
        let certificate = params.signed_by(&key, &issuer)?;
        Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem(), validity })
    }
}

fn make(now: Timestamp) -> Result<Pair, CertificateError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(Vec::new())?;
    // The date tells two authorities apart in the list of a bundle.
    params.distinguished_name = name(&format!("Berth CA {}", now.strftime("%Y-%m-%d")));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, now, AUTHORITY_LIFE)?;
    Ok(Pair { certificate: params.self_signed(&key)?.pem(), key: key.serialize_pem() })
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn set_validity(
    params: &mut CertificateParams,
    now: Timestamp,
    life: jiff::SignedDuration,
) -> Result<Validity, CertificateError> {
    let validity = Validity::starting(now, life).ok_or(CertificateError::Clock(now))?;
    params.not_before = SystemTime::from(validity.not_before).into();
    params.not_after = SystemTime::from(validity.not_after).into();
    Ok(validity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;

    fn secret(authority: &Authority) -> Secret {
        Secret { data: Some(authority.data()), ..Secret::default() }
    }

    fn at(day: i32) -> Timestamp {
        "2030-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_hours(24) * day
    }

    #[test]
    fn an_authority_survives_its_secret() {
        let (authority, step) = Authority::advance(None, at(0)).unwrap();
        assert_eq!(step, AuthorityStep::Create);
        let read = Authority::read(&secret(&authority)).unwrap();
        assert_eq!(read.data(), authority.data());
        let (kept, step) = Authority::advance(Some(read), at(1)).unwrap();
        assert_eq!((step, kept.data() == authority.data()), (AuthorityStep::Keep, true));
    }

    /// metallb PR 2696: nothing is ever signed by an authority that is not in the bundle of the day before.
    #[test]
    fn a_new_authority_is_published_before_it_signs_and_the_old_one_stays() {
        let (first, _) = Authority::advance(None, at(0)).unwrap();
        let due = 10 * 365 * 2 / 3 + 1;
        let (announced, step) = Authority::advance(Some(first.clone()), at(due)).unwrap();
        assert_eq!(step, AuthorityStep::Announce);
        assert_eq!(announced.active.certificate, first.active.certificate);
        let next = announced.next.as_ref().unwrap().certificate.clone();
        assert!(announced.bundle().as_pem().contains(next.trim()));
        let read = Authority::read(&secret(&announced)).unwrap();
        let (promoted, step) = Authority::advance(Some(read), at(due + 1)).unwrap();
        assert_eq!((step, promoted.active.certificate.trim()), (AuthorityStep::Promote, next.trim()));
        assert!(promoted.bundle().as_pem().contains(first.active.certificate.trim()));
        let read = Authority::read(&secret(&promoted)).unwrap();
        let (later, _) = Authority::advance(Some(read), at(10 * 365 + 1)).unwrap();
        assert!(
            !later.bundle().as_pem().contains(first.active.certificate.trim()),
            "expired ones are dropped"
        );
    }

    /// Server-side apply leaves the keys that somebody else has put into the Secret, so the one that was promoted can
    /// stand there as the next one still: it is promoted once, and its own successor is announced in time.
    #[test]
    fn what_a_backup_announces_is_promoted_once() {
        let (first, _) = Authority::advance(None, at(0)).unwrap();
        let due = 10 * 365 * 2 / 3 + 1;
        let (announced, _) = Authority::advance(Some(first), at(due)).unwrap();
        let backup = announced.data();
        let stored = |authority: &Authority| {
            let data = backup.clone().into_iter().chain(authority.data()).collect();
            Secret { data: Some(data), ..Secret::default() }
        };
        let read = Authority::read(&stored(&announced)).unwrap();
        let (promoted, step) = Authority::advance(Some(read), at(due + 1)).unwrap();
        assert_eq!(step, AuthorityStep::Promote);
        let read = Authority::read(&stored(&promoted)).unwrap();
        let (kept, step) = Authority::advance(Some(read), at(due + 2)).unwrap();
        assert_eq!((step, kept.data() == promoted.data()), (AuthorityStep::Keep, true));
        let (_, step) = Authority::advance(Some(kept), at(2 * due + 2)).unwrap();
        assert_eq!(step, AuthorityStep::Announce);
    }

    #[test]
    fn a_next_one_that_cannot_sign_is_none() {
        let (first, _) = Authority::advance(None, at(0)).unwrap();
        let due = 10 * 365 * 2 / 3 + 1;
        let (announced, _) = Authority::advance(Some(first.clone()), at(due)).unwrap();
        for key in ["garbage".to_owned(), first.active.key] {
            let mut broken = secret(&announced);
            broken.data.as_mut().unwrap().insert("next.key".to_owned(), ByteString(key.into_bytes()));
            let read = Authority::read(&broken).unwrap();
            let trusted = announced.next.as_ref().unwrap().certificate.trim();
            assert!(read.bundle().as_pem().contains(trusted), "whoever trusts it may go on");
            let (again, step) = Authority::advance(Some(read), at(due + 1)).unwrap();
            assert_eq!(step, AuthorityStep::Announce);
            assert!(again.next.unwrap().certificate.trim() != trusted);
        }
    }

    #[test]
    fn a_secret_that_lost_its_key_is_refused() {
        let (authority, _) = Authority::advance(None, at(0)).unwrap();
        let mut broken = secret(&authority);
        broken.data.as_mut().unwrap().remove("tls.key");
        assert!(matches!(Authority::read(&broken), Err(CertificateError::Secret { key: "tls.key", .. })));
    }
}
