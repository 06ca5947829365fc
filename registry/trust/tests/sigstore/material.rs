//! What the tables of this crate share: the corpus (`../corpus/sigstore/README.md` says how it was made), trust roots,
//! what becomes of a signature, and damage to a document.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use berth_trust::sigstore::{InvalidTrustRoot, Keyless, Presented, Refused, TrustRoot};
use serde_json::Value;
pub(crate) use sigstore_verify::trust_root::{
    SIGSTORE_GITHUB_TRUSTED_ROOT as GITHUB, SIGSTORE_PRODUCTION_TRUSTED_ROOT as PUBLIC,
    SIGSTORE_STAGING_TRUSTED_ROOT as STAGING,
};

pub(crate) fn file(name: &str) -> String {
    let path = format!("{}/tests/corpus/sigstore/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

pub(crate) fn document(name: &str) -> Value {
    serde_json::from_str(&file(&format!("{name}.json"))).unwrap()
}

pub(crate) fn root(text: &str) -> TrustRoot {
    TrustRoot::parse(text.as_bytes()).unwrap()
}

/// A trust root, changed.
pub(crate) fn root_with(text: &str, change: impl FnOnce(&mut Value)) -> Result<TrustRoot, InvalidTrustRoot> {
    let mut document: Value = serde_json::from_str(text).unwrap();
    change(&mut document);
    TrustRoot::parse(document.to_string().as_bytes())
}

pub(crate) fn keyless(document: &Value, root: &TrustRoot) -> Result<Keyless, Refused> {
    Presented::bundle(document.to_string().as_bytes())?.keyless(root)
}

/// What becomes of a bundle.
pub(crate) fn reason(document: &Value, root: &TrustRoot) -> &'static str {
    outcome(keyless(document, root))
}

pub(crate) fn outcome<T>(result: Result<T, Refused>) -> &'static str {
    result.map_or_else(|refused| refused.reason(), |_| "counts")
}

/// Every text of a document, by where it stands.
fn texts(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                texts(member, &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                texts(item, &format!("{at}/{index}"), found);
            }
        }
        Value::String(_) => found.push(at.to_owned()),
        _ => {}
    }
}

/// One byte changed in the decoded content of one text, or the text replaced.
pub(crate) fn damage(document: &mut Value, which: usize, position: usize, with: u8) {
    let mut found = Vec::new();
    texts(document, "", &mut found);
    let text = document.pointer_mut(&found[which % found.len()]).unwrap();
    let old = text.as_str().unwrap();
    *text = match STANDARD.decode(old) {
        Ok(mut bytes) if !bytes.is_empty() => {
            let position = position % bytes.len();
            bytes[position] ^= with;
            STANDARD.encode(bytes).into()
        }
        _ => format!("{}{old}", char::from(with % 128)).into(),
    };
}
