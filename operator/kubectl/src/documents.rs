//! What `-f` names: files, folders and standard input with `ImagePolicies` and the Secrets that they take keys from, each
//! of them one YAML or JSON document, several, or a List. What a policy writes and nobody would read is an error.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use berth_crds::ImagePolicySpec;
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde::{Deserialize, de::IgnoredAny};
use serde_yaml::Value;

/// The one version of the API.
const API_VERSION: &str = "berth.dev/v1alpha1";

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// Why files cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DocumentError {
    #[error("cannot read {place}: {source}")]
    Unreadable { place: String, source: io::Error },
    #[error("{place} is larger than {MAX_FILE} bytes")]
    TooLarge { place: String },
    #[error("{place} is neither YAML nor JSON: {cause}")]
    Malformed { place: String, cause: String },
    /// One object of a file.
    #[error("{place}: {object}: {cause}")]
    Object { place: String, object: String, cause: String },
    #[error("no ImagePolicy in {0}")]
    NoPolicy(String),
}

/// An `ImagePolicy` of a file.
#[derive(Clone, Debug)]
pub(crate) struct WrittenPolicy {
    /// As written, if it is.
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
    pub(crate) spec: ImagePolicySpec,
}

/// The objects that matter; others are passed over.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    /// In the order of the files.
    pub(crate) policies: Vec<WrittenPolicy>,
    secrets: Vec<Secret>,
}

/// An `ImagePolicy`, with no room for a field that it does not have.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Policy {
    api_version: String,
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    metadata: ObjectMeta,
    spec: ImagePolicySpec,
    #[serde(rename = "status")]
    _status: Option<IgnoredAny>,
}

impl Documents {
    /// Reads what all of `sources` hold; `-` is standard input. Without any policy it is an error.
    pub(crate) fn read(sources: &[PathBuf]) -> Result<Self, DocumentError> {
        let mut documents = Self::default();
        for source in sources {
            if source.as_os_str() == "-" {
                documents.take("standard input", &mut io::stdin())?;
                continue;
            }
            for path in files(source)? {
                let place = path.display().to_string();
                let file = std::fs::File::open(&path);
                let mut file =
                    file.map_err(|source| DocumentError::Unreadable { place: place.clone(), source })?;
                documents.take(&place, &mut file)?;
            }
        }
        if documents.policies.is_empty() {
            let places: Vec<_> = sources.iter().map(|source| source.display().to_string()).collect();
            return Err(DocumentError::NoPolicy(places.join(", ")));
        }
        Ok(documents)
    }

    fn take(&mut self, place: &str, source: &mut impl io::Read) -> Result<(), DocumentError> {
        let mut text = String::new();
        let read = source.take(MAX_FILE + 1).read_to_string(&mut text);
        let read = read.map_err(|source| DocumentError::Unreadable { place: place.to_owned(), source })?;
        if read as u64 > MAX_FILE {
            return Err(DocumentError::TooLarge { place: place.to_owned() });
        }
        for document in serde_yaml::Deserializer::from_str(&text) {
            let document = Value::deserialize(document).map_err(|error| DocumentError::Malformed {
                place: place.to_owned(),
                cause: error.to_string(),
            })?;
            self.object(place, document)?;
        }
        Ok(())
    }

    fn object(&mut self, place: &str, object: Value) -> Result<(), DocumentError> {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let (kind, name) = (
            text(object.get("kind")),
            text(object.get("metadata").and_then(|metadata| metadata.get("name"))),
        );
        let error = |cause: String| {
            let object = format!("{kind} {name}").trim().to_owned();
            DocumentError::Object { place: place.to_owned(), object, cause }
        };
        match kind.as_str() {
            // An empty document, as `---` at an end leaves it.
            "" if object.is_null() => Ok(()),
            "" => Err(error("an object without a kind".to_owned())),
            "ImagePolicy" => {
                let policy: Policy = parse(object).map_err(error)?;
                if policy.api_version != API_VERSION {
                    let cause =
                        format!("apiVersion {:?} is not known: write {API_VERSION}", policy.api_version);
                    return Err(error(cause));
                }
                if name.is_empty() {
                    return Err(error("metadata.name is missing".to_owned()));
                }
                self.policies.push(WrittenPolicy {
                    namespace: policy.metadata.namespace,
                    name,
                    spec: policy.spec,
                });
                Ok(())
            }
            "Secret" => {
                self.secrets.push(parse(object).map_err(error)?);
                Ok(())
            }
            kind if kind.ends_with("List") => {
                let items = object.get("items").and_then(Value::as_sequence).cloned().unwrap_or_default();
                items.into_iter().try_for_each(|item| self.object(place, item))
            }
            _ => Ok(()),
        }
    }

    /// The data of a Secret. One that does not say where it is belongs where it is asked for.
    pub(crate) fn secret(&self, namespace: &str, name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        let wanted = |secret: &&Secret| {
            let meta = &secret.metadata;
            meta.name.as_deref() == Some(name) && meta.namespace.as_deref().is_none_or(|it| it == namespace)
        };
        // The last one wins, as it would when they are applied in turn.
        let secret = self.secrets.iter().rfind(wanted)?;
        let data = secret.data.iter().flatten().map(|(key, ByteString(value))| (key.clone(), value.clone()));
        let text = secret.string_data.iter().flatten();
        let text = text.map(|(key, value)| (key.clone(), value.clone().into_bytes()));
        Some(data.chain(text).collect())
    }
}

/// The error names the field.
fn parse<'de, T: Deserialize<'de>>(object: Value) -> Result<T, String> {
    serde_path_to_error::deserialize(object).map_err(|error| {
        let (path, cause) = (error.path().to_string(), error.into_inner().to_string());
        // The parser of YAML begins with the path at times.
        if path == "." || cause.starts_with(&path) { cause } else { format!("{path}: {cause}") }
    })
}

/// A file, or the YAML and JSON files of a folder in the order of their names.
fn files(path: &Path) -> Result<Vec<PathBuf>, DocumentError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let unreadable = |source| DocumentError::Unreadable { place: path.display().to_string(), source };
    let entries = std::fs::read_dir(path).map_err(unreadable)?;
    let entries: Result<Vec<_>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut files = entries.map_err(unreadable)?;
    files.retain(|file| {
        let extension = file.extension().and_then(|extension| extension.to_str());
        matches!(extension, Some("yaml" | "yml" | "json"))
    });
    files.sort();
    Ok(files)
}

impl fmt::Display for WrittenPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const POLICY: &str = "
apiVersion: berth.dev/v1alpha1
kind: ImagePolicy
metadata: {name: signed, namespace: team-a}
spec:
  mode: Enforce
  images: ['r.io/**']
  require: [{signature: {authorities: [{name: release, key: {secretName: cosign}}]}}]
";

    fn documents(text: &str) -> Result<Documents, DocumentError> {
        let mut documents = Documents::default();
        documents.take("policy.yaml", &mut text.as_bytes()).map(|()| documents)
    }

    #[test]
    fn several_documents_lists_and_other_objects() {
        let secret = "kind: Secret\nmetadata: {name: cosign}\ndata: {a: MQ==}\nstringData: {b: '2'}\n";
        let list = format!("kind: List\nitems:\n- {}", POLICY.trim().replace('\n', "\n  "));
        let other = "kind: Namespace\nmetadata: {name: team-a}\n";
        let documents = documents(&[POLICY, secret, &list, other, ""].join("\n---\n")).unwrap();
        let names: Vec<_> = documents.policies.iter().map(|policy| policy.name.as_str()).collect();
        assert_eq!(names, ["signed", "signed"]);
        let data = documents.secret("team-a", "cosign").unwrap();
        assert_eq!(data, [("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())].into());
        assert!(documents.secret("team-a", "other").is_none());
    }

    #[test]
    fn a_secret_of_another_namespace_is_not_taken() {
        let secret = "kind: Secret\nmetadata: {name: cosign, namespace: team-b}\n";
        let documents = documents(secret).unwrap();
        assert!(
            documents.secret("team-a", "cosign").is_none() && documents.secret("team-b", "cosign").is_some()
        );
    }

    /// A field that nobody reads is named: a policy that is half understood could let in what it was written against.
    #[rstest]
    #[case::top("spec:", "sepc: 1\nspec:", "sepc")]
    #[case::spec("  mode: Enforce", "  mode: Enforce\n  exemptions: []", "exemptions")]
    #[case::requirement("{signature:", "{cosign: 1, signature:", "cosign")]
    #[case::signature("{authorities:", "{treshold: 2, authorities:", "treshold")]
    #[case::authority("name: release,", "name: release, expiry: 1,", "expiry")]
    #[case::key("secretName: cosign", "secretName: cosign, data: x", "data")]
    #[case::mode("Enforce", "enforce", "enforce")]
    #[case::version("v1alpha1", "v1beta7", "v1beta7")]
    #[case::name("name: signed, ", "", "metadata.name")]
    fn what_is_wrong_is_named(#[case] from: &str, #[case] to: &str, #[case] named: &str) {
        let text = POLICY.replacen(from, to, 1);
        assert_ne!(text, POLICY);
        let error = documents(&text).unwrap_err().to_string();
        assert!(error.starts_with("policy.yaml: ImagePolicy") && error.contains(named), "{error}");
    }

    #[rstest]
    #[case::yaml("a: [")]
    #[case::twice("kind: Namespace\nkind: ImagePolicy\n")]
    #[case::text("kind")]
    fn other_texts_are_refused(#[case] text: &str) {
        assert!(documents(text).is_err());
    }
}
