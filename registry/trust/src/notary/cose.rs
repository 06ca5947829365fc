//! The COSE envelope: `COSE_Sign1_Tagged` (RFC 9052, 4.2).

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{
    algorithm::Algorithm,
    cbor::{self, Item, Label},
    envelope::{
        AUTHENTIC_SIGNING_TIME, Attributes, EXPIRY, Envelope, PLUGIN, SCHEME, SIGNING_TIME, TIMESTAMP,
    },
    refused::Refused,
};

const SIGN1: u64 = 18;
const EPOCH_TIME: u64 = 1;

const ALG: Label<'static> = Label::Int(1);
const CRIT: Label<'static> = Label::Int(2);
const CONTENT_TYPE: Label<'static> = Label::Int(3);
const X5CHAIN: Label<'static> = Label::Int(33);

type Header<'a> = BTreeMap<Label<'a>, Item<'a>>;

/// Reads an envelope.
pub(super) fn read(bytes: &[u8]) -> Result<Envelope, Refused> {
    envelope(bytes).map_err(Refused::Malformed)
}

fn envelope(bytes: &[u8]) -> Result<Envelope, String> {
    let Item::Tag(SIGN1, message) = cbor::read(bytes)? else {
        return Err("it is no COSE_Sign1_Tagged".to_owned());
    };
    let Item::Array(parts) = *message else { return Err("its message is no array".to_owned()) };
    let [Item::Bytes(raw), Item::Map(unprotected), Item::Bytes(payload), Item::Bytes(signature)] =
        parts.as_slice()
    else {
        return Err("its message is not headers, payload and signature".to_owned());
    };
    let Item::Map(protected) = cbor::read(raw)? else {
        return Err("its protected header is no map".to_owned());
    };
    if let Some(label) = unprotected.keys().find(|label| protected.contains_key(label)) {
        return Err(format!("its header {label:?} appears protected and unprotected"));
    }
    let algorithm = match protected.get(&ALG) {
        Some(Item::Int(label)) => Algorithm::from_cose(*label),
        _ => None,
    };
    let chain = protected.get(&X5CHAIN).or_else(|| unprotected.get(&X5CHAIN));
    Ok(Envelope {
        message: signed(raw, payload),
        signature: signature.to_vec(),
        algorithm: algorithm.ok_or("it names no algorithm that is understood")?,
        payload: payload.to_vec(),
        chain: certificates(chain).ok_or("its x5chain is no array of certificates")?,
        timestamp: match unprotected.get(&Label::Text(TIMESTAMP)) {
            None => None,
            Some(Item::Bytes(token)) => Some(token.to_vec()),
            Some(_) => return Err("its timestampSignature is no byte string".to_owned()),
        },
        attributes: Attributes {
            content_type: text(&protected, CONTENT_TYPE)?,
            critical: critical(&protected)?,
            scheme: text(&protected, Label::Text(SCHEME))?,
            signing_time: time(&protected, SIGNING_TIME)?,
            authentic_signing_time: time(&protected, AUTHENTIC_SIGNING_TIME)?,
            expiry: time(&protected, EXPIRY)?,
            plugin: protected.contains_key(&Label::Text(PLUGIN)),
        },
    })
}

fn certificates(chain: Option<&Item<'_>>) -> Option<Vec<Vec<u8>>> {
    let Some(Item::Array(certificates)) = chain else { return None };
    certificates
        .iter()
        .map(|certificate| match certificate {
            Item::Bytes(der) => Some(der.to_vec()),
            _ => None,
        })
        .collect()
}

fn text(header: &Header<'_>, label: Label<'_>) -> Result<String, String> {
    match header.get(&label) {
        Some(Item::Text(text)) => Ok((*text).to_owned()),
        _ => Err(format!("its header {label:?} is no text")),
    }
}

/// An epoch-based date (RFC 8949, 3.4.2) in whole seconds.
fn time(header: &Header<'_>, label: &str) -> Result<Option<Timestamp>, String> {
    let Some(item) = header.get(&Label::Text(label)) else { return Ok(None) };
    let seconds = match item {
        Item::Tag(EPOCH_TIME, seconds) => match seconds.as_ref() {
            Item::Int(seconds) => Timestamp::from_second(*seconds).ok(),
            _ => None,
        },
        _ => None,
    };
    seconds.map(Some).ok_or_else(|| format!("its header {label} is no time in whole seconds"))
}

fn critical(header: &Header<'_>) -> Result<Vec<String>, String> {
    let Some(Item::Array(labels)) = header.get(&CRIT) else {
        return Err("its header crit is no array".to_owned());
    };
    labels
        .iter()
        .map(|label| match label {
            Item::Text(label) => Ok((*label).to_owned()),
            Item::Int(label) => Ok(label.to_string()),
            _ => Err("its header crit holds something else than labels".to_owned()),
        })
        .collect()
}

/// `Sig_structure` (RFC 9052, 4.4).
fn signed(protected: &[u8], payload: &[u8]) -> Vec<u8> {
    const CONTEXT: &[u8] = b"\x84\x6aSignature1";
    const NO_EXTERNAL_DATA: &[u8] = b"\x40";
    [CONTEXT, &head(protected), protected, NO_EXTERNAL_DATA, &head(payload), payload].concat()
}

/// The shortest head of a byte string (RFC 8949, 4.2.1).
fn head(bytes: &[u8]) -> Vec<u8> {
    let size = (bytes.len() as u64).to_be_bytes();
    match size {
        [0, 0, 0, 0, 0, 0, 0, small @ 0..=23] => vec![0x40 | small],
        [0, 0, 0, 0, 0, 0, 0, one] => vec![0x58, one],
        [0, 0, 0, 0, 0, 0, two @ ..] => [&[0x59][..], &two].concat(),
        [0, 0, 0, 0, four @ ..] => [&[0x5a][..], &four].concat(),
        eight => [&[0x5b][..], &eight].concat(),
    }
}
