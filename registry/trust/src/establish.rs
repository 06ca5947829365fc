//! From evidence to facts: every statement is tried with every anchor, in a fixed order of checks: what the bytes are
//! called, the signature over them, and only then what they say. What cannot be read or believed is a fact, too.

use std::{
    cell::LazyCell,
    collections::{BTreeMap, BTreeSet},
};

use berth_registry_core::{Descriptor, Digest};
use jiff::Timestamp;

use crate::{
    anchor::{Anchor, AnchorId, Anchors},
    bounds::{Bounds, BoundsExceeded},
    evidence::{Described, Evidence, Index},
    facts::{Cause, Facts, Form, Place, Refusal, Says, Signer, Statement},
    notary::{self, ByNotary, Target},
    signed::{self, Claims, Content, Found, Signed},
    sigstore::{ByCertificate, Keyless, Presented, Refused, TrustRoot},
    validity::Validity,
};

impl Facts {
    /// Looks at the evidence with the given anchors. Fails only when there is more evidence than we look at.
    pub fn establish(
        evidence: &Evidence,
        anchors: &Anchors,
        bounds: &Bounds,
    ) -> Result<Self, BoundsExceeded> {
        let mut examination = Examination {
            subjects: vec![(evidence.subject.clone(), evidence.described.clone())],
            anchors,
            facts: Self {
                subject: evidence.subject.clone(),
                anchors: anchors.ids().cloned().collect(),
                statements: BTreeSet::new(),
                refusals: BTreeSet::new(),
            },
        };
        let mut artifacts: BTreeSet<_> = evidence.artifacts.iter().collect();
        for index in evidence.indexes.iter().collect::<BTreeSet<_>>() {
            if examination.lists(index) {
                artifacts.extend(&index.artifacts);
            }
        }
        if artifacts.len() > bounds.referrers {
            return Err(BoundsExceeded { what: "referrers", bound: bounds.referrers });
        }
        let found: Vec<_> =
            artifacts.into_iter().flat_map(|artifact| signed::read(artifact, bounds)).collect();
        if found.len() > bounds.referrers {
            return Err(BoundsExceeded { what: "signed statements", bound: bounds.referrers });
        }
        for Found { place, content } in found {
            match content {
                Ok(Content::Signed { form, signed, layer, bytes }) => {
                    examination.signed(&place, form, &signed, &layer, bytes);
                }
                Ok(Content::Notary { media_type, envelope }) => {
                    examination.notary(&place, &media_type, envelope);
                }
                Err(why) => examination.refuse(&place, Cause::Malformed { by: None, why }),
            }
        }
        Ok(examination.facts)
    }
}

/// When a statement was made, as far as that can be shown.
#[derive(Default)]
struct Times {
    proven: BTreeMap<AnchorId, Timestamp>,
    unproven: BTreeMap<AnchorId, String>,
    valid: Option<Validity>,
}

struct Examination<'a> {
    /// What statements may be about: the image, and the indexes above it.
    subjects: Vec<(Digest, Option<Described>)>,
    anchors: &'a Anchors,
    facts: Facts,
}

impl Examination<'_> {
    /// Whether an index is what it is called and lists the image; statements about it are then statements about both.
    fn lists(&mut self, index: &Index) -> bool {
        let listed =
            index.digest.matches(&index.manifest).then(|| signed::parse(&index.manifest).ok()).flatten();
        let listed = listed.filter(|it| it.manifests.iter().any(|child| child.digest == self.facts.subject));
        if let Some(manifest) = listed {
            let size = index.manifest.len() as u64;
            let described = Described { media_type: manifest.media_type, size };
            self.subjects.push((index.digest.clone(), Some(described)));
            true
        } else {
            let place = Place { manifest: index.digest.clone(), layer: None };
            let why = "the index that it is about does not list the image".to_owned();
            self.refuse(&place, Cause::Malformed { by: None, why });
            false
        }
    }

    /// More than one key may verify a signature, because keys can be made to fit it; each then counts for those who
    /// trust that key.
    fn signed(&mut self, place: &Place, form: Form, signed: &Signed, layer: &Descriptor, bytes: &[u8]) {
        let presented = LazyCell::new(|| match form {
            Form::Bundle => Presented::bundle(bytes),
            Form::Classic | Form::Notary => Presented::classic(layer, bytes),
        });
        let presented = || presented.as_ref().map_err(Clone::clone);
        let mut known = false;
        for (id, anchor) in self.anchors.iter() {
            let payload = || presented().map(|presented| presented.payload().to_vec());
            let verified = match anchor {
                Anchor::Key(key) if key.verifies(&signed.message, &signed.signature) => {
                    let times = self.times(|log| presented()?.proven(log, key));
                    Ok((Signer::Key(id.clone()), times, signed.payload.clone()))
                }
                Anchor::Key(_) | Anchor::Notary(_) => continue,
                Anchor::Sigstore(root) => presented().and_then(|it| it.keyless(root)).and_then(|keyless| {
                    let Keyless { issuer, subject, proven } = keyless;
                    let times = Times { proven: BTreeMap::from([(id.clone(), proven)]), ..Times::default() };
                    Ok((Signer::Identity { root: id.clone(), issuer, subject }, times, payload()?))
                }),
                Anchor::Authorities(authorities) => {
                    presented().and_then(|it| it.by_certificate(authorities, None)).and_then(|by| {
                        let ByCertificate { subject, fingerprint, valid, .. } = by;
                        let proven = |log: &TrustRoot| {
                            let proven = presented()?.by_certificate(authorities, Some(log))?.proven;
                            proven.ok_or(Refused::NoProvenTime)
                        };
                        let times = Times { valid, ..self.times(proven) };
                        Ok((
                            Signer::Certificate { authorities: id.clone(), subject, fingerprint },
                            times,
                            payload()?,
                        ))
                    })
                }
            };
            match verified {
                Ok((by, times, payload)) => {
                    known = true;
                    self.believe(place, form, by, times, (signed.claims)(&payload));
                }
                // Made with a key: that is no business of a trust root.
                Err(Refused::NoCertificate) => {}
                Err(refused) => self.refused(place, id, &refused),
            }
        }
        if !known {
            self.refuse(place, Cause::UnknownSigner);
        }
    }

    /// When a statement was made, by the word of each log.
    fn times(&self, proven: impl Fn(&TrustRoot) -> Result<Timestamp, Refused>) -> Times {
        let mut times = Times::default();
        for (id, anchor) in self.anchors.iter() {
            let Anchor::Sigstore(log) = anchor else { continue };
            match proven(log) {
                Ok(at) => drop(times.proven.insert(id.clone(), at)),
                Err(why) => drop(times.unproven.insert(id.clone(), why.to_string())),
            }
        }
        times
    }

    /// Takes the word of a verified payload, if it speaks about the image.
    fn believe(
        &mut self,
        place: &Place,
        form: Form,
        by: Signer,
        times: Times,
        claims: Result<Claims, String>,
    ) {
        let claims = match claims {
            Ok(claims) => claims,
            Err(why) => {
                let why = format!("its signed payload is malformed: {why}");
                return self.refuse(place, Cause::Malformed { by: Some(by), why });
            }
        };
        let about = self.subjects.iter().map(|(digest, _)| digest).find(|it| claims.subjects.contains(it));
        if let Some(about) = about.cloned() {
            let (at, Claims { says, claimed, .. }) = (place.clone(), claims);
            let Times { proven, unproven, valid } = times;
            let expires = None;
            let statement =
                Statement { at, form, about, by, says, proven, unproven, claimed, expires, valid };
            self.facts.statements.insert(statement);
            return;
        }
        let cause = match claims.subjects.into_iter().min() {
            Some(about) => Cause::OtherDigest { by, about },
            None => Cause::Malformed { by: Some(by), why: "its signed payload names no digest".to_owned() },
        };
        self.refuse(place, cause);
    }

    fn notary(&mut self, place: &Place, media_type: &str, envelope: &[u8]) {
        let mut known = false;
        for (id, anchor) in self.anchors.iter() {
            let Anchor::Notary(store) = anchor else { continue };
            known = true;
            let mut outcome = None;
            for (digest, described) in &self.subjects {
                let Some(Described { media_type: of, size }) = described else { continue };
                let target = Target { media_type: of, digest, size: *size };
                let tried = notary::verify(store, media_type, envelope, target);
                // About none of them: the cause is told with respect to the image.
                if tried.is_ok() || outcome.is_none() {
                    outcome = Some(tried.map(|by| (digest.clone(), by)));
                }
            }
            match outcome {
                Some(Ok((about, by))) => self.believe_notary(place, id, about, by),
                Some(Err(refused)) => self.refused(place, id, &refused),
                None => self.refused(place, id, &"the image's own manifest was not looked at"),
            }
        }
        if !known {
            self.refuse(place, Cause::UnknownSigner);
        }
    }

    fn believe_notary(&mut self, place: &Place, store: &AnchorId, about: Digest, by: ByNotary) {
        let ByNotary { subject, fingerprint, claimed, proven, expiry, valid } = by;
        self.facts.statements.insert(Statement {
            at: place.clone(),
            form: Form::Notary,
            about,
            by: Signer::Notary { store: store.clone(), subject, fingerprint },
            says: Says::Signature,
            proven: proven.map(|at| BTreeMap::from([(store.clone(), at)])).unwrap_or_default(),
            unproven: BTreeMap::new(),
            claimed,
            expires: expiry,
            valid,
        });
    }

    fn refused(&mut self, place: &Place, by: &AnchorId, why: &impl ToString) {
        self.refuse(place, Cause::Refused { by: by.clone(), why: why.to_string() });
    }

    fn refuse(&mut self, place: &Place, cause: Cause) {
        self.facts.refusals.insert(Refusal { at: place.clone(), cause });
    }
}
