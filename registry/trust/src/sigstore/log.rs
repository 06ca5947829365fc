//! Entries of transparency logs: what is asked of them beyond what the library checks.

use jiff::Timestamp;
use sigstore_verify::types::{TransparencyLogEntry, bundle::InclusionProof};

use super::{
    refused::Refused,
    trust_root::{Log, TrustRoot},
};

/// Each entry is proven to be in the very log that it names, while that log was to be believed. The library is
/// content with one proven entry of several, takes a tree head that any known log signed, and compares a log's
/// window only with the times that this log itself asserts.
pub(super) fn check(
    entries: &[TransparencyLogEntry],
    times: &[Timestamp],
    root: &TrustRoot,
) -> Result<(), Refused> {
    for entry in entries {
        let log = root.log(&entry.log_id.key_id).ok_or(Refused::UnknownLog)?;
        if let Some(time) = times.iter().find(|time| !log.believed_at(**time)) {
            return Err(Refused::BadLogProof(format!(
                "the trust root believes that log at other times, not at {time}, when the signature was made"
            )));
        }
        match &entry.inclusion_proof {
            Some(proof) => signed_by(log, proof)?,
            None if entry.inclusion_promise.is_some() => {}
            None => return Err(Refused::BadLogProof("an entry comes without any proof".to_owned())),
        }
    }
    Ok(())
}

fn signed_by(log: &Log, proof: &InclusionProof) -> Result<(), Refused> {
    let signed = proof.checkpoint.checkpoint().is_some_and(|head| {
        head.signatures().iter().any(|by| log.key.verify(head.signed_data(), &by.signature).is_ok())
    });
    if signed {
        Ok(())
    } else {
        Err(Refused::BadLogProof("its tree head is not signed by the log that the entry names".to_owned()))
    }
}
