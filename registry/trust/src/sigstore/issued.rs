//! Who issued a Fulcio certificate: the way to an authority of the trust root, valid at the time of the signature, and a
//! certificate log that saw the certificate beforehand (RFC 6962, section 3.2).

use std::time::Duration;

use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use sha2::{Digest as _, Sha256};
use sigstore_verify::{crypto::WEBPKI_VERIFICATION_ALGS, trust_root::TimeRange};
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::extensions::ParsedExtension;

use super::{CODE_SIGNING, leaf, refused::Refused, trust_root::TrustRoot};
use crate::der::{Der, OID, SEQUENCE, element, explicit};

/// `1.3.6.1.4.1.11129.2.4.2`, the extension with what the certificate logs gave.
const SCT_LIST: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xd6, 0x79, 0x02, 0x04, 0x02];

/// One certificate of an authority. Intermediates are trusted as roots are: certificates come without them.
pub(super) struct Issuer {
    pub(super) anchor: TrustAnchor<'static>,
    /// Its `SubjectPublicKeyInfo`.
    pub(super) key: Vec<u8>,
    /// When its authority is believed, and all certificates of that are valid.
    pub(super) valid: Option<TimeRange>,
}

/// That an authority issued the certificate and all was valid at `time`; gives the key of the direct issuer.
pub(super) fn by_authority(
    certificate: &[u8],
    intermediates: &[&[u8]],
    time: Timestamp,
    issuers: &[Issuer],
) -> Result<Vec<u8>, Refused> {
    let believed = |issuer: &&Issuer| issuer.valid.is_none_or(|window| window.contains(time));
    let issuers: Vec<_> = issuers.iter().filter(believed).collect();
    if issuers.is_empty() {
        return Err(Refused::NotValidThen(format!("no authority of the trust root was, at {time}")));
    }
    let anchors: Vec<_> = issuers.iter().map(|issuer| issuer.anchor.clone()).collect();
    let intermediates: Vec<_> = intermediates.iter().map(|der| CertificateDer::from(*der)).collect();
    let certificate = CertificateDer::from(certificate);
    let certificate = EndEntityCert::try_from(&certificate)
        .map_err(|e| Refused::malformed(format_args!("its certificate: {e}")))?;
    let seconds = u64::try_from(time.as_second()).unwrap_or_default();
    let path = certificate.verify_for_usage(
        WEBPKI_VERIFICATION_ALGS,
        &anchors,
        &intermediates,
        UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
        KeyUsage::required(CODE_SIGNING),
        None,
        None,
    )?;
    if let Some(issuer) = path.intermediate_certificates().next() {
        return Ok(leaf::read(&issuer.der())?.public_key().raw.to_vec());
    }
    let anchor = issuers.iter().find(|issuer| issuer.anchor == *path.anchor());
    anchor.map(|issuer| issuer.key.clone()).ok_or_else(|| webpki::Error::UnknownIssuer.into())
}

/// That a certificate log of the trust root saw the certificate before it was issued.
pub(super) fn in_certificate_log(
    certificate: &[u8],
    issuer_key: &[u8],
    root: &TrustRoot,
) -> Result<(), Refused> {
    let certificate = leaf::read(certificate)?;
    let stamps = certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SCT(stamps) => Some(stamps),
        _ => None,
    });
    let stamps = stamps
        .ok_or_else(|| Refused::NotInCertificateLog("it holds no signed certificate timestamp".to_owned()))?;
    let seen = precertificate(certificate.tbs_certificate.as_ref())
        .ok_or_else(|| Refused::malformed("its certificate's extensions"))?;
    let mut cause = "its timestamps are by logs that the trust root does not name";
    for stamp in stamps {
        let Some(log) = root.certificate_log(stamp.id.key_id) else { continue };
        let time =
            i64::try_from(stamp.timestamp).ok().and_then(|time| Timestamp::from_millisecond(time).ok());
        if !time.is_some_and(|time| log.believed_at(time)) {
            cause = "the trust root believes the log of its timestamp at other times";
            continue;
        }
        let length = |bytes: &[u8], width: usize| {
            let length = bytes.len().to_be_bytes();
            length.get(length.len() - width..).unwrap_or_default().to_vec()
        };
        // Version, kind of signature, time, kind of entry; the issuer's key, the certificate, extensions.
        let signed = [
            &[stamp.version.0, 0][..],
            &stamp.timestamp.to_be_bytes(),
            &[0, 1],
            &Sha256::digest(issuer_key),
            &length(&seen, 3),
            &seen,
            &length(stamp.extensions.0, 2),
            stamp.extensions.0,
        ];
        if log.key.verifies(&signed.concat(), stamp.signature.data) {
            return Ok(());
        }
        cause = "its timestamp is about another certificate";
    }
    Err(Refused::NotInCertificateLog(cause.to_owned()))
}

/// What a log saw of a certificate: all of it but the logs' own extension.
fn precertificate(signed: &[u8]) -> Option<Vec<u8>> {
    let mut fields = Vec::new();
    for field in Der::new(signed).take(SEQUENCE)?.all()? {
        if field.tag != explicit(3) {
            fields.extend_from_slice(field.whole);
            continue;
        }
        let mut extensions = Vec::new();
        for extension in field.only(SEQUENCE)?.all()? {
            if extension.inside().take(OID)?.content != SCT_LIST {
                extensions.extend_from_slice(extension.whole);
            }
        }
        fields.extend(element(explicit(3), &element(SEQUENCE, &extensions)));
    }
    Some(element(SEQUENCE, &fields))
}
