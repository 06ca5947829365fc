//! A transparency log of the tests: a Merkle tree (RFC 6962) with three leaves, the middle one of which is the entry.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{NOW, Secret, base64, hex};

const ORIGIN: &str = "log.example";

#[derive(Debug)]
pub(crate) struct Log {
    secret: Secret,
    id: Vec<u8>,
}

/// What a log gives back.
pub(crate) struct Entry {
    kind: Value,
    version: Value,
    pub(crate) body: Vec<u8>,
    /// Over the entry's index across trees.
    promise: Vec<u8>,
    log: Vec<u8>,
    proof: Value,
}

const INDEX: u64 = 1_000_001;

impl Log {
    pub(crate) fn new(secret: Secret) -> Self {
        let id = Sha256::digest(secret.spki()).to_vec();
        Self { secret, id }
    }

    /// As a trust root names it.
    pub(crate) fn trusted(&self) -> Value {
        json!({
            "baseUrl": "https://log.example", "hashAlgorithm": "SHA2_256", "logId": {"keyId": base64(&self.id)},
            "publicKey": {
                "rawBytes": base64(self.secret.spki()), "keyDetails": "UNREAD",
                "validFor": {"start": "2025-01-01T00:00:00Z"},
            },
        })
    }

    pub(crate) fn id(&self) -> &[u8] {
        &self.id
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.secret.sign(message)
    }

    /// Takes an entry as it is.
    pub(crate) fn add(&self, entry: &Value) -> Entry {
        let body = serde_json_canonicalizer::to_vec(entry).unwrap();
        let promised = format!(
            r#"{{"body":"{}","integratedTime":{NOW},"logID":"{}","logIndex":{INDEX}}}"#,
            base64(&body),
            hex(&self.id)
        );
        let leaf = |bytes: &[u8]| Sha256::digest([&[0], bytes].concat()).to_vec();
        let node = |left: &[u8], right: &[u8]| Sha256::digest([&[1], left, right].concat()).to_vec();
        let (before, after) = (leaf(b"before"), leaf(b"after"));
        let root = node(&node(&before, &leaf(&body)), &after);
        let head = format!("{ORIGIN}\n3\n{}\n", base64(&root));
        let signature = base64([&self.id[..4], &self.sign(head.as_bytes())].concat());
        let proof = json!({
            "logIndex": "1", "treeSize": "3", "rootHash": base64(&root),
            "hashes": [base64(before), base64(after)],
            "checkpoint": {"envelope": format!("{head}\n\u{2014} {ORIGIN} {signature}\n")},
        });
        Entry {
            kind: entry["kind"].clone(),
            version: entry["apiVersion"].clone(),
            promise: self.sign(promised.as_bytes()),
            log: self.id.clone(),
            body,
            proof,
        }
    }
}

impl Entry {
    /// As a bundle holds it.
    pub(crate) fn bundled(&self) -> Value {
        let tiled = self.kind == "hashedrekord" && self.version == "0.0.2";
        let index = if tiled { 1 } else { INDEX };
        let mut entry = json!({
            "logIndex": index.to_string(), "logId": {"keyId": base64(&self.log)},
            "kindVersion": {"kind": self.kind, "version": self.version},
            "canonicalizedBody": base64(&self.body), "inclusionProof": self.proof,
        });
        if !tiled {
            entry["integratedTime"] = NOW.to_string().into();
            entry["inclusionPromise"] = json!({"signedEntryTimestamp": base64(&self.promise)});
        }
        entry
    }

    /// As an annotation of the classic formats holds it.
    pub(crate) fn annotation(&self) -> String {
        json!({
            "SignedEntryTimestamp": base64(&self.promise),
            "Payload": {
                "body": base64(&self.body), "integratedTime": NOW, "logID": hex(&self.log), "logIndex": INDEX,
            },
        })
        .to_string()
    }
}
