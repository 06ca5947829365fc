//! What a certificate says about itself: when it is valid, whom it names, what it is for. Whether anybody vouches for
//! it is decided elsewhere.

use x509_parser::{
    asn1_rs::{self, Oid, TaggedExplicit, Utf8String, oid},
    certificate::X509Certificate,
    extensions::GeneralName,
    prelude::FromDer as _,
};

use super::refused::Refused;
use crate::{key::PublicKey, validity::Validity};

/// Who vouches for the identity, as Fulcio writes it now (DER) and wrote it before (bare).
const ISSUER: Oid<'static> = oid!(1.3.6.1.4.1.57264.1.8);
const OLD_ISSUER: Oid<'static> = oid!(1.3.6.1.4.1.57264.1.1);
/// A name of a user without a mail address or URL (Fulcio's `OtherName`).
const USER_NAME: Oid<'static> = oid!(1.3.6.1.4.1.57264.1.7);

pub(super) fn read(der: &[u8]) -> Result<X509Certificate<'_>, Refused> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(Refused::malformed("its certificate is followed by something else")),
        Err(e) => Err(Refused::malformed(format_args!("its certificate: {e}"))),
    }
}

/// From when to when a certificate is valid.
pub(super) fn validity(certificate: &X509Certificate<'_>) -> Result<Validity, Refused> {
    let validity = certificate.validity().try_into();
    validity.map_err(|e: jiff::Error| Refused::malformed(format_args!("its certificate's validity: {e}")))
}

/// The key that it is for.
pub(super) fn key(der: &[u8]) -> Result<PublicKey, Refused> {
    PublicKey::from_der(read(der)?.public_key().raw).map_err(|e| Refused::Unsupported(e.to_string()))
}

/// Who says who the holder of a Fulcio certificate is. A new statement that is malformed is not made good by an old one.
pub(super) fn issuer(der: &[u8]) -> Result<String, Refused> {
    let malformed =
        |e: &dyn std::fmt::Display| Refused::malformed(format_args!("its certificate's issuer: {e}"));
    let certificate = read(der)?;
    if let Some(extension) = certificate.get_extension_unique(&ISSUER).map_err(|e| malformed(&e))? {
        return match Utf8String::from_der(extension.value) {
            Ok(([], issuer)) => visible(issuer.as_ref()),
            Ok(_) => Err(malformed(&"it is followed by something else")),
            Err(e) => Err(malformed(&e)),
        };
    }
    let extension = certificate.get_extension_unique(&OLD_ISSUER).map_err(|e| malformed(&e))?;
    let extension =
        extension.ok_or_else(|| Refused::NoIdentity("it names no issuer of identities".to_owned()))?;
    visible(std::str::from_utf8(extension.value).map_err(|e| malformed(&e))?)
}

/// The one identity that a Fulcio certificate is for: its alternative name. We take no certificate that could
/// be read in two ways.
pub(super) fn identity(der: &[u8]) -> Result<String, Refused> {
    let certificate = read(der)?;
    signs(&certificate, false)?;
    name(&certificate)?.ok_or_else(|| Refused::NoIdentity("it has no subject alternative name".to_owned()))
}

/// The same of a certificate by an authority of the user's own, which may also name its holder as certificates
/// always did: by a distinguished name (RFC 4514).
pub(super) fn holder(der: &[u8]) -> Result<String, Refused> {
    let certificate = read(der)?;
    signs(&certificate, true)?;
    let purpose = certificate
        .extended_key_usage()
        .map_err(|e| Refused::malformed(format_args!("its certificate's extensions: {e}")))?;
    if !purpose.is_some_and(|purpose| purpose.value.code_signing) {
        return Err(Refused::UntrustedCertificate("its extended key usage is not codeSigning".to_owned()));
    }
    match name(&certificate)? {
        Some(name) => Ok(name),
        None => visible(&certificate.subject().to_string()),
    }
}

/// No extension is there twice, and the key is for signatures; `silent`: also if the certificate does not say.
fn signs(certificate: &X509Certificate<'_>, silent: bool) -> Result<(), Refused> {
    let malformed = |e| Refused::malformed(format_args!("its certificate's extensions: {e}"));
    certificate.extensions_map().map_err(malformed)?;
    let usage = certificate.key_usage().map_err(malformed)?;
    if usage.map_or(silent, |usage| usage.value.digital_signature()) {
        return Ok(());
    }
    Err(Refused::UntrustedCertificate("its key usage is not digitalSignature".to_owned()))
}

/// The only alternative name.
fn name(certificate: &X509Certificate<'_>) -> Result<Option<String>, Refused> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|e| Refused::malformed(format_args!("its certificate's names: {e}")))?;
    match names.map(|names| names.value.general_names.as_slice()).unwrap_or_default() {
        [] => Ok(None),
        [name] => plain(name).map(Some),
        several => Err(Refused::NoIdentity(format!(
            "it has {} subject alternative names, and one is allowed",
            several.len()
        ))),
    }
}

fn plain(name: &GeneralName<'_>) -> Result<String, Refused> {
    match name {
        GeneralName::RFC822Name(text) | GeneralName::URI(text) | GeneralName::DNSName(text) => visible(text),
        GeneralName::OtherName(kind, value) if *kind == USER_NAME => {
            let (_, name) = TaggedExplicit::<Utf8String<'_>, asn1_rs::Error, 0>::from_der(value)
                .map_err(|e| Refused::malformed(format_args!("its certificate's user name: {e}")))?;
            visible(name.into_inner().as_ref())
        }
        _ => Err(Refused::NoIdentity(
            "its subject alternative name is no mail address, URL, host name or user name".to_owned(),
        )),
    }
}

/// Names are compared and shown, so they hold no line breaks and nothing else that cannot be seen.
pub(super) fn visible(name: &str) -> Result<String, Refused> {
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(Refused::NoIdentity(format!("its name {name:?} is empty or holds control characters")));
    }
    Ok(name.to_owned())
}
