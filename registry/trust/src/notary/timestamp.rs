//! Countersignatures: an RFC 3161 token over the envelope's signature, by an authority with certificates of its own. CMS
//! (RFC 5652) is read only as far as RFC 3161 and RFC 5816 have tokens be: one signer, signed attributes, and among them
//! the signer's certificate by hash.

use std::collections::BTreeSet;

use aws_lc_rs::digest;
use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};
use x509_parser::{asn1_rs::Oid, prelude::FromDer as _, x509::AlgorithmIdentifier};

use super::{
    Validity, algorithm,
    certificate::Certificate,
    chain::{Chain, MAX_CHAIN, Purpose},
    refused::TimestampFault,
};
use crate::der::{
    BOOLEAN, Der, Element, GENERALIZED_TIME, INTEGER, OCTET_STRING, OID, SEQUENCE, SET, explicit,
};

const SIGNED_DATA: &str = "1.2.840.113549.1.7.2";
const TST_INFO: &str = "1.2.840.113549.1.9.16.1.4";
const CONTENT_TYPE: &str = "1.2.840.113549.1.9.3";
const MESSAGE_DIGEST: &str = "1.2.840.113549.1.9.4";
const SIGNING_CERTIFICATE_V2: &str = "1.2.840.113549.1.9.16.2.47";
/// The policy whose accuracy is one second when a token says nothing (RFC 3628, 5.2).
const BASELINE_POLICY: &str = "0.4.0.2023.1.1";

/// Certificates in one token.
const MAX_CERTIFICATES: usize = 20;

/// Verifies a token about `signature`; gives the span in which the authority saw it.
pub(super) fn verify(
    token: &[u8],
    signature: &[u8],
    roots: &BTreeSet<Vec<u8>>,
) -> Result<Validity, TimestampFault> {
    let token = Token::read(token).ok_or(TimestampFault::Malformed)?;
    let info = token.info(signature)?;
    let leaf = token.signed_by(token.named(token.certificates.iter().copied())?)?;
    let chain = climb(leaf, &token.certificates, roots)?;
    chain.check(Purpose::TimeStamping)?;
    if !chain.validity().contains(info.span) {
        return Err(TimestampFault::NotValidThen(info.span.until));
    }
    Ok(info.span)
}

/// Verifies an answer of an authority about `signature`, or the token in it; gives the time that it says. The authority's
/// certificates are known, its own first and the root last; what the token brings along is not looked at.
pub(crate) fn by_authority(
    answer: &[u8],
    signature: &[u8],
    authority: &[Vec<u8>],
) -> Result<Timestamp, TimestampFault> {
    let token = granted(answer).and_then(Token::read).ok_or(TimestampFault::Malformed)?;
    let info = token.info(signature)?;
    let (own, above) = authority.split_first().ok_or(TimestampFault::NoCertificate)?;
    // Which certificate it is by is known, so that a token may also name it in the way of old, by SHA-1.
    if token.signer.certificate.is_some() {
        token.named(std::iter::once(own.as_slice()))?;
    }
    let above = above.iter().map(|der| Certificate::parse(der).ok_or(TimestampFault::NoCertificate));
    let chain = Chain::new(token.signed_by(own)?, above.collect::<Result<_, _>>()?);
    chain.check_links(Purpose::TimeStamping)?;
    if !chain.validity().contains(Validity::at(info.time)) {
        return Err(TimestampFault::NotValidThen(info.time));
    }
    Ok(info.time)
}

/// The token in a `TimeStampResp` (RFC 3161, 2.4.2), or what is none.
fn granted(answer: &[u8]) -> Option<&[u8]> {
    let mut answered = Der::new(answer).take(SEQUENCE)?.inside();
    let Some(status) = answered.take(SEQUENCE) else { return Some(answer) };
    // `granted` and `grantedWithMods`.
    (status.inside().take(INTEGER)?.number()? <= 1).then_some(())?;
    answered.take(SEQUENCE).map(|token| token.whole)
}

/// The chain from the signer to a trusted root, by way of the token's certificates, which are in no order.
fn climb<'a>(
    leaf: Certificate<'a>,
    certificates: &[&'a [u8]],
    roots: &'a BTreeSet<Vec<u8>>,
) -> Result<Chain<'a>, TimestampFault> {
    let unknown = TimestampFault::UnknownRoot(leaf.subject());
    if roots.contains(leaf.der()) {
        return Ok(Chain::new(leaf, Vec::new()));
    }
    let mut above: Vec<Certificate<'a>> = Vec::new();
    while above.len() + 1 < MAX_CHAIN {
        let last = above.last().unwrap_or(&leaf);
        let issuer_among = |ders: &mut dyn Iterator<Item = &'a [u8]>| {
            ders.filter_map(Certificate::parse).find(|issuer| last.is_issued_by(issuer))
        };
        if let Some(root) = issuer_among(&mut roots.iter().map(Vec::as_slice)) {
            above.push(root);
            return Ok(Chain::new(leaf, above));
        }
        match issuer_among(&mut certificates.iter().copied()) {
            Some(issuer) if !issuer.is_self_signed() => above.push(issuer),
            _ => break,
        }
    }
    Err(unknown)
}

/// `SignedData` (RFC 5652, 5.1) around a `TSTInfo`.
struct Token<'a> {
    content: &'a [u8],
    certificates: Vec<&'a [u8]>,
    signer: Signer<'a>,
}

impl<'a> Token<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut outer = Der::new(bytes);
        let mut content_info = outer.take(SEQUENCE)?.inside();
        outer.end()?;
        is(content_info.take(OID)?, SIGNED_DATA)?;
        let mut data = content_info.take(explicit(0))?.only(SEQUENCE)?.inside();
        content_info.end()?;

        let version = data.take(INTEGER)?;
        data.take(SET)?;
        let mut content = data.take(SEQUENCE)?.inside();
        is(content.take(OID)?, TST_INFO)?;
        let info = content.take(explicit(0))?.only(OCTET_STRING)?;
        content.end()?;
        let certificates = data.take(explicit(0)).map_or_else(|| Some(Vec::new()), Element::all)?;
        data.take(explicit(1));
        let signer = data.take(SET)?.only(SEQUENCE)?;
        data.end()?;
        (version.number()? == 3 && certificates.len() <= MAX_CERTIFICATES).then_some(())?;
        Some(Self {
            content: info.content,
            certificates: certificates.iter().map(|certificate| certificate.whole).collect(),
            signer: Signer::read(signer)?,
        })
    }

    /// What it says, if it is about `signature`.
    fn info(&self, signature: &[u8]) -> Result<Info<'a>, TimestampFault> {
        let info = Info::read(self.content).ok_or(TimestampFault::Malformed)?;
        let imprint = algorithm::hash(&info.imprint_algorithm).ok_or(TimestampFault::Algorithm)?;
        let same = digest::digest(imprint, signature).as_ref() == info.imprint;
        same.then_some(info).ok_or(TimestampFault::OtherSignature)
    }

    /// The certificate among these that it names.
    fn named<'c>(
        &self,
        mut certificates: impl Iterator<Item = &'c [u8]>,
    ) -> Result<&'c [u8], TimestampFault> {
        let (algorithm, named) = self.signer.certificate.as_ref().ok_or(TimestampFault::NoCertificate)?;
        let algorithm = algorithm::hash(algorithm).ok_or(TimestampFault::Algorithm)?;
        let found = certificates.find(|der| digest::digest(algorithm, der).as_ref() == *named);
        found.ok_or(TimestampFault::NoCertificate)
    }

    /// The certificate, if it is signed by its key.
    fn signed_by<'c>(&self, certificate: &'c [u8]) -> Result<Certificate<'c>, TimestampFault> {
        let signer = &self.signer;
        let content_digest = algorithm::hash(&signer.digest).ok_or(TimestampFault::Algorithm)?;
        if digest::digest(content_digest, self.content).as_ref() != signer.message_digest {
            return Err(TimestampFault::Altered);
        }
        let leaf = Certificate::parse(certificate).ok_or(TimestampFault::NoCertificate)?;
        let candidates = algorithm::candidates(&signer.algorithm, Some(content_digest));
        let candidates = candidates.ok_or(TimestampFault::Algorithm)?;
        if !algorithm::verifies(candidates, leaf.key(), &signer.attributes, signer.signature) {
            return Err(TimestampFault::Altered);
        }
        Ok(leaf)
    }
}

/// `SignerInfo` (RFC 5652, 5.3) with the signed attributes that a token must have. Which certificate signed is told by
/// the signed attribute, not by the unsigned signer identifier.
struct Signer<'a> {
    digest: String,
    message_digest: &'a [u8],
    /// By which hash, and that.
    certificate: Option<(String, &'a [u8])>,
    /// What is signed: the attributes as a SET.
    attributes: Vec<u8>,
    algorithm: AlgorithmIdentifier<'a>,
    signature: &'a [u8],
}

impl<'a> Signer<'a> {
    fn read(info: Element<'a>) -> Option<Self> {
        let mut info = info.inside();
        info.take(INTEGER)?;
        info.next()?;
        let digest = algorithm_name(info.take(SEQUENCE)?)?;
        let signed = info.take(explicit(0))?;
        let (_, algorithm) = AlgorithmIdentifier::from_der(info.take(SEQUENCE)?.whole).ok()?;
        let signature = info.take(OCTET_STRING)?.content;
        info.take(explicit(1));
        info.end()?;

        let attributes = signed.all()?;
        is(attribute(&attributes, CONTENT_TYPE)?, TST_INFO)?;
        let message_digest =
            attribute(&attributes, MESSAGE_DIGEST).filter(|value| value.tag == OCTET_STRING)?;
        let certificate = match attribute(&attributes, SIGNING_CERTIFICATE_V2) {
            Some(certificates) => Some(named(certificates)?),
            None => None,
        };
        Some(Self {
            digest,
            message_digest: message_digest.content,
            certificate,
            attributes: [&[SET], signed.whole.get(1..)?].concat(),
            algorithm,
            signature,
        })
    }
}

/// The first of the certificates that `SigningCertificateV2` names (RFC 5035, 3): by which hash, and that.
fn named(certificates: Element<'_>) -> Option<(String, &[u8])> {
    let mut certificate = certificates.inside().take(SEQUENCE)?.inside().take(SEQUENCE)?.inside();
    // Without an algorithm it is SHA-256.
    let algorithm = match certificate.take(SEQUENCE) {
        Some(identifier) => algorithm_name(identifier)?,
        None => "2.16.840.1.101.3.4.2.1".to_owned(),
    };
    Some((algorithm, certificate.take(OCTET_STRING)?.content))
}

/// The one value of the one attribute of this type.
fn attribute<'a>(attributes: &[Element<'a>], oid: &str) -> Option<Element<'a>> {
    let mut values = attributes.iter().filter_map(|attribute| {
        let mut inside = attribute.inside();
        is(inside.take(OID)?, oid)?;
        Some(inside.take(SET).and_then(|values| match values.all()?.as_slice() {
            [value] => Some(*value),
            _ => None,
        }))
    });
    let value = values.next()?;
    values.next().is_none().then_some(value)?
}

/// `TSTInfo` (RFC 3161, 2.4.2).
struct Info<'a> {
    imprint_algorithm: String,
    imprint: &'a [u8],
    time: Timestamp,
    /// The time, less and more its accuracy.
    span: Validity,
}

impl<'a> Info<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut outer = Der::new(bytes);
        let mut info = outer.take(SEQUENCE)?.inside();
        outer.end()?;
        (info.take(INTEGER)?.number()? == 1).then_some(())?;
        let policy = info.take(OID)?;
        let mut imprint = info.take(SEQUENCE)?.inside();
        let imprint_algorithm = algorithm_name(imprint.take(SEQUENCE)?)?;
        let imprint = imprint.take(OCTET_STRING)?.content;
        info.take(INTEGER)?;
        let time = time(info.take(GENERALIZED_TIME)?.content)?;
        let accuracy = match info.take(SEQUENCE) {
            Some(accuracy) => accuracy_of(accuracy)?,
            None => SignedDuration::from_secs(i64::from(is(policy, BASELINE_POLICY).is_some())),
        };
        info.take(BOOLEAN);
        info.take(INTEGER);
        info.take(explicit(0));
        if let Some(extensions) = info.take(explicit(1)) {
            let critical = |extension: &Element<'_>| {
                let mut inside = extension.inside();
                inside.next();
                inside.take(BOOLEAN).is_some()
            };
            // Critical extensions would have to be understood, and none are.
            (!extensions.all()?.iter().any(critical)).then_some(())?;
        }
        info.end()?;
        let span =
            Validity { from: time.checked_sub(accuracy).ok()?, until: time.checked_add(accuracy).ok()? };
        Some(Self { imprint_algorithm, imprint, time, span })
    }
}

/// `Accuracy`: seconds, milliseconds, microseconds, each of which may be absent.
fn accuracy_of(accuracy: Element<'_>) -> Option<SignedDuration> {
    const MILLISECONDS: u8 = 0x80;
    const MICROSECONDS: u8 = 0x81;
    let mut inside = accuracy.inside();
    let mut number = |tag| match inside.take(tag) {
        Some(element) => element.number(),
        None => Some(0),
    };
    let (seconds, milliseconds, microseconds) =
        (number(INTEGER)?, number(MILLISECONDS)?, number(MICROSECONDS)?);
    inside.end()?;
    (milliseconds < 1000 && microseconds < 1000).then_some(())?;
    Some(
        SignedDuration::from_secs(i64::from(seconds))
            + SignedDuration::from_millis(i64::from(milliseconds))
            + SignedDuration::from_micros(i64::from(microseconds)),
    )
}

/// `YYYYMMDDhhmmss[.s…]Z`.
fn time(text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (seconds, fraction) = text.split_once('.').map_or((text, None), |(whole, part)| (whole, Some(part)));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (seconds.len() == 14 && digits(seconds) && fraction.is_none_or(digits)).then_some(())?;
    let iso = format!("{}T{}", &text[..8], &text[8..]);
    iso.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

/// The object identifier of an `AlgorithmIdentifier`.
fn algorithm_name(identifier: Element<'_>) -> Option<String> {
    name(identifier.inside().take(OID)?)
}

fn name(oid: Element<'_>) -> Option<String> {
    let (_, oid) = Oid::from_der(oid.whole).ok()?;
    Some(oid.to_id_string())
}

fn is(oid: Element<'_>, expected: &str) -> Option<()> {
    (name(oid)? == expected).then_some(())
}
