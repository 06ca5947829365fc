//! Entries of transparency logs (Rekor): that a log holds an entry, by a proof of inclusion in a tree whose head it signed
//! (RFC 6962), or by its promise to include it, which also says when (the signed entry timestamp).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use sigstore_verify::types::{TransparencyLogEntry, bundle::InclusionProof};

use super::{
    MAX_CHAIN, hexadecimal,
    presented::Content,
    record::{Maker, Record},
    refused::Refused,
    trust_root::{Log, TrustRoot},
};

/// Signatures under one tree head: the log's, and those of witnesses.
const MAX_COSIGNATURES: usize = 100;

/// An entry as it came.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// What the log is known by.
    pub(super) log: Vec<u8>,
    pub(super) index: u64,
    pub(super) time: Option<Timestamp>,
    /// What the log wrote down.
    pub(super) body: Vec<u8>,
    pub(super) promise: Option<Vec<u8>>,
    pub(super) proof: Option<InclusionProof>,
}

impl From<TransparencyLogEntry> for Entry {
    fn from(entry: TransparencyLogEntry) -> Self {
        Self {
            log: entry.log_id.key_id.as_bytes().to_vec(),
            index: entry.log_index.get(),
            time: entry.integrated_time,
            body: entry.canonicalized_body.as_bytes().to_vec(),
            promise: entry.inclusion_promise.map(|it| it.signed_entry_timestamp.as_bytes().to_vec()),
            proof: entry.inclusion_proof,
        }
    }
}

impl Entry {
    /// When the log took it, by its promise.
    pub(super) fn promised(&self, root: &TrustRoot) -> Result<Option<Timestamp>, Refused> {
        let (Some(promise), Some(time)) = (&self.promise, self.time) else { return Ok(None) };
        // Canonical JSON (RFC 8785): the members are in order, and nothing in them needs escapes.
        let promised = format!(
            r#"{{"body":"{}","integratedTime":{},"logID":"{}","logIndex":{}}}"#,
            STANDARD.encode(&self.body),
            time.as_second(),
            hexadecimal(&self.log),
            self.index,
        );
        if self.log(root)?.key.verifies(promised.as_bytes(), promise) {
            return Ok(Some(time));
        }
        Err(Refused::BadLogProof("its promise is not by the log that the entry names".to_owned()))
    }

    /// That a log of the trust root, which is believed at all these times, holds this entry, and that it is the entry of
    /// this very signature. `promise`: whether the log's promise will do for the proof.
    pub(super) fn check(
        &self,
        root: &TrustRoot,
        times: &[Timestamp],
        promise: bool,
        (content, signature, by): (&Content, &[u8], Maker<'_>),
    ) -> Result<(), Refused> {
        let log = self.log(root)?;
        if let Some(time) = times.iter().find(|time| !log.believed_at(**time)) {
            return Err(Refused::BadLogProof(format!(
                "the trust root believes that log at other times, not at {time}, when the signature was made"
            )));
        }
        let promised = self.promised(root)?.is_some();
        if self.promise.is_some() && !promised {
            return Err(Refused::BadLogProof("its promise says no time".to_owned()));
        }
        let record = Record::read(&self.body)?;
        match &self.proof {
            Some(proof) => self.included(log, proof, record.tiled)?,
            None if promised && promise => {}
            None if promised => return Err(Refused::NotLogged),
            None => return Err(Refused::BadLogProof("an entry comes without any proof".to_owned())),
        }
        record.binds(content, signature, by)
    }

    fn log<'a>(&self, root: &'a TrustRoot) -> Result<&'a Log, Refused> {
        root.log(&self.log).ok_or(Refused::UnknownLog)
    }

    /// Root and size of the tree are those that the log signed; what stands beside them in the proof is not looked at.
    fn included(&self, log: &Log, proof: &InclusionProof, tiled: bool) -> Result<(), Refused> {
        let bad = |cause: &str| Err(Refused::BadLogProof(cause.to_owned()));
        let Some(head) = proof.checkpoint.checkpoint() else {
            return bad("its proof of inclusion comes without a tree head");
        };
        Refused::bound("signatures under one tree head", head.signatures().len(), MAX_COSIGNATURES)?;
        let mut by_log =
            head.signatures().iter().filter(|by| self.log.starts_with(by.key_id.as_bytes())).take(MAX_CHAIN);
        if !by_log.any(|by| log.key.verifies(head.signed_data().as_ref(), by.signature.as_bytes())) {
            return bad("its tree head is not signed by the log that the entry names");
        }
        // Logs of the first version are made of several trees, and number entries across them as well.
        let index = if tiled { self.index } else { proof.log_index.get() };
        let path = proof.hashes.iter().map(|hash| hash.as_bytes().as_slice());
        let root = root_of(&self.body, index, head.tree_size(), path);
        if root.as_deref() == Some(head.root_hash().as_bytes().as_slice()) {
            return Ok(());
        }
        bad("its proof of inclusion does not lead to the tree head")
    }
}

/// The root of a tree of that size which has this leaf at this place (RFC 9162, 2.1.3.2).
fn root_of<'a>(leaf: &[u8], index: u64, size: u64, path: impl Iterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let node = |left: &[u8], right: &[u8]| {
        Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().to_vec()
    };
    let (mut place, mut last) = (index, size.checked_sub(1).filter(|last| index <= *last)?);
    let mut hash = Sha256::new().chain_update([0]).chain_update(leaf).finalize().to_vec();
    for beside in path {
        if last == 0 {
            return None;
        }
        if place & 1 == 1 || place == last {
            hash = node(beside, &hash);
            while place & 1 == 0 && place != 0 {
                (place, last) = (place >> 1, last >> 1);
            }
        } else {
            hash = node(&hash, beside);
        }
        (place, last) = (place >> 1, last >> 1);
    }
    (last == 0).then_some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Root and path by their definition (RFC 6962, 2.1).
    fn root(leaves: &[Vec<u8>]) -> Vec<u8> {
        if let [leaf] = leaves {
            return Sha256::digest([&[0], leaf.as_slice()].concat()).to_vec();
        }
        let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
        Sha256::digest([&[1], root(left).as_slice(), &root(right)].concat()).to_vec()
    }

    fn path(index: usize, leaves: &[Vec<u8>]) -> Vec<Vec<u8>> {
        if leaves.len() == 1 {
            return Vec::new();
        }
        let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
        let (mut path, beside) = match index.checked_sub(left.len()) {
            None => (path(index, left), root(right)),
            Some(index) => (path(index, right), root(left)),
        };
        path.push(beside);
        path
    }

    proptest! {
        #[test]
        fn each_leaf_is_in_its_place_and_no_other(size in 1_usize..40, at in any::<usize>(), claimed in 0_u64..50) {
            let leaves: Vec<_> = (0..size).map(|number| number.to_string().into_bytes()).collect();
            let (index, tree) = (at % size, root(&leaves));
            let path = path(index, &leaves);
            let found = root_of(&leaves[index], claimed, size as u64, path.iter().map(Vec::as_slice));
            prop_assert_eq!(found == Some(tree.clone()), claimed == index as u64);
            let other = root_of(b"other", index as u64, size as u64, path.iter().map(Vec::as_slice));
            prop_assert_ne!(other, Some(tree));
        }
    }
}
