//! `kubectl berth verify`: what is signed and attested about an image, and by whom, whatever any policy says of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use berth_operator_core::decision::Look;
use berth_registry_core::{Digest, ImageReference, reference::InvalidImageReference};
use berth_trust::{
    AnchorId, Authority, By, Cause, Facts, Form, InvalidKey, InvalidMatcher, InvalidPolicy, Matcher, Policy,
    PublicKey, Quorum, Requirement, Says, Signer, Unmatched,
    sigstore::{InvalidTrustRoot, TrustRoot},
};
use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    cluster::{ClusterRegistries, Flags},
    judge::{look, unseen},
    output::{Outcome, Report},
    registries::{Access, AccessError, Registries},
    table::{NONE, Table},
};

/// What to look at, and who counts.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// The image, as a Pod would name it.
    image: String,
    /// Public key as cosign writes it: a file, or the PEM itself. Several: any of them counts.
    #[arg(long, value_name = "FILE|PEM", required_unless_present = "trust_root", allow_hyphen_values = true)]
    key: Vec<String>,
    #[arg(
        long,
        value_name = "FILE",
        requires = "issuers",
        requires = "subjects",
        help = "A trusted_root.json: the certificate authorities and logs that identities are verified with"
    )]
    trust_root: Option<PathBuf>,
    #[arg(
        long,
        requires = "trust_root",
        group = "issuers",
        help = "Who has to vouch for the identity, such as https://accounts.example.com"
    )]
    issuer: Option<String>,
    /// The same as a regular expression over the whole text.
    #[arg(long, requires = "trust_root", group = "issuers")]
    issuer_regex: Option<String>,
    /// The identity, such as a mail address or the URL of a workflow.
    #[arg(long, requires = "trust_root", group = "subjects")]
    subject: Option<String>,
    /// The same as a regular expression over the whole text.
    #[arg(long, requires = "trust_root", group = "subjects")]
    subject_regex: Option<String>,
    #[command(flatten)]
    access: Access,
}

/// Why nothing was verified.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerifyError {
    #[error(transparent)]
    Image(#[from] InvalidImageReference),
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error("cannot read {name}: {source}")]
    Unreadable { name: String, source: std::io::Error },
    #[error("--key {name}: {cause}")]
    Key { name: String, cause: InvalidKey },
    #[error("--trust-root {name}: {cause}")]
    TrustRoot { name: String, cause: InvalidTrustRoot },
    #[error("{option}: {cause}")]
    Matcher { option: &'static str, cause: InvalidMatcher },
    #[error(transparent)]
    Policy(#[from] InvalidPolicy),
    /// The registry did not say.
    #[error("{image} could not be checked: {cause}; this says nothing about the image{}", if *transient { ": try again" } else { "" })]
    Unseen { image: ImageReference, cause: String, transient: bool },
}

/// All that was found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Verified {
    outcome: Outcome,
    image: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    /// As a policy would say it that wants a signature by any of those given.
    message: String,
    statements: Vec<Row>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Kind {
    Signature,
    Attestation,
    /// It does not count.
    Refused,
}

/// One signed statement.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    kind: Kind,
    /// The name of a key, or an identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    signer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    form: Option<Form>,
    /// By the word of a log or a timestamp authority, at the latest.
    #[serde(skip_serializing_if = "Option::is_none")]
    proven: Option<Timestamp>,
    /// In the signer's own word.
    #[serde(skip_serializing_if = "Option::is_none")]
    claimed: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    predicate_type: Option<String>,
    /// Why it does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    /// Where it was found.
    manifest: Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    layer: Option<usize>,
}

/// Looks at an image with the given keys and identities.
pub(crate) async fn run(arguments: &Arguments, flags: &Flags) -> Result<Verified, VerifyError> {
    let image: ImageReference = arguments.image.parse()?;
    let Signers { policy, names } = Signers::new(arguments)?;
    let outside = Registries::new(&arguments.access, &BTreeSet::from([image.host.as_str()]))?;
    let registries = ClusterRegistries::on_demand(flags.clone(), outside);
    let seen = match registries.client(&image, None).await {
        Ok(client) => look(&client, &image, policy.anchors()).await,
        Err(error) => unseen(&error.into()),
    };
    if let Look::Unseen { message: cause, transient, .. } = seen {
        return Err(VerifyError::Unseen { image, cause, transient });
    }
    let (finding, _) = seen.finding(&policy, &image, Timestamp::now());
    let message = finding.verdict.explain(&image, finding.digest.as_ref());
    let outcome = if finding.verdict.is_admitted() { Outcome::Admitted } else { Outcome::Denied };
    if outcome == Outcome::Denied {
        eprintln!("note: {message}");
    }
    let statements = match &seen {
        Look::Seen(facts) => rows(facts, &names),
        _ => Vec::new(),
    };
    Ok(Verified { outcome, image: image.to_string(), digest: finding.digest, message, statements })
}

/// Those who count.
struct Signers {
    /// Wants a signature by any of them.
    policy: Policy,
    /// What their keys are called.
    names: BTreeMap<AnchorId, String>,
}

impl Signers {
    fn new(arguments: &Arguments) -> Result<Self, VerifyError> {
        let mut names = BTreeMap::new();
        let mut authorities = Vec::new();
        for (index, given) in arguments.key.iter().enumerate() {
            let (name, pem) = if given.trim_start().starts_with("-----BEGIN") {
                (format!("key {}", index + 1), given.clone().into_bytes())
            } else {
                (given.clone(), read(Path::new(given))?)
            };
            let key = PublicKey::from_pem(&String::from_utf8_lossy(&pem))
                .map_err(|cause| VerifyError::Key { name: name.clone(), cause })?;
            // The same key twice is one.
            if names.insert(key.id().clone(), name.clone()).is_none() {
                authorities.push(Authority { name, by: By::Key { key, log: None }, valid_until: None });
            }
        }
        if let Some(path) = &arguments.trust_root {
            let name = path.display().to_string();
            let root =
                TrustRoot::parse(&read(path)?).map_err(|cause| VerifyError::TrustRoot { name, cause })?;
            let issuer = matcher("--issuer", arguments.issuer.as_deref(), arguments.issuer_regex.as_deref())?;
            let subject =
                matcher("--subject", arguments.subject.as_deref(), arguments.subject_regex.as_deref())?;
            let by = By::Keyless { root, issuer, subject };
            authorities.push(Authority { name: "the identity".to_owned(), by, valid_until: None });
        }
        let everything = "**".parse().into_iter().collect();
        let requirement = Requirement::Signature(Quorum::new(1, authorities, None)?);
        let policy = Policy::new(everything, Unmatched::Allow, vec![requirement], Vec::new())?;
        Ok(Self { policy, names })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, VerifyError> {
    std::fs::read(path).map_err(|source| VerifyError::Unreadable { name: path.display().to_string(), source })
}

/// Of a text and a regular expression, the one that is given.
fn matcher(option: &'static str, exact: Option<&str>, regex: Option<&str>) -> Result<Matcher, VerifyError> {
    let matcher = match regex {
        Some(pattern) => Matcher::regex(pattern),
        None => Matcher::exact(exact.unwrap_or_default()),
    };
    matcher.map_err(|cause| VerifyError::Matcher { option, cause })
}

/// Everything that was found, what counts first.
fn rows(facts: &Facts, names: &BTreeMap<AnchorId, String>) -> Vec<Row> {
    let name = |signer: &Signer| match signer {
        Signer::Key(id) => names.get(id).cloned().unwrap_or_else(|| signer.to_string()),
        signer => signer.to_string(),
    };
    let statements = facts.statements().map(|statement| {
        let (kind, predicate_type) = match &statement.says {
            Says::Signature => (Kind::Signature, None),
            Says::Attestation { predicate_type, .. } => (Kind::Attestation, Some(predicate_type.clone())),
        };
        Row {
            kind,
            signer: Some(name(&statement.by)),
            form: Some(statement.form),
            proven: statement.proven.values().min().copied(),
            claimed: statement.claimed,
            predicate_type,
            cause: None,
            manifest: statement.at.manifest.clone(),
            layer: statement.at.layer,
        }
    });
    let refusals = facts.refusals().map(|refusal| {
        let (signer, cause) = match &refusal.cause {
            Cause::OtherDigest { by, about } => {
                (Some(name(by)), format!("it is about {about}, another image"))
            }
            Cause::UnknownSigner => (None, "none of the given signers made it, or it was altered".to_owned()),
            Cause::Refused { why, .. } => (None, why.clone()),
            Cause::Malformed { by, why } => (by.as_ref().map(name), why.clone()),
        };
        Row {
            kind: Kind::Refused,
            signer,
            form: None,
            proven: None,
            claimed: None,
            predicate_type: None,
            cause: Some(cause),
            manifest: refusal.at.manifest.clone(),
            layer: refusal.at.layer,
        }
    });
    statements.chain(refusals).collect()
}

impl Report for Verified {
    fn text(&self, wide: bool) -> String {
        if self.statements.is_empty() {
            return String::new();
        }
        let mut headers = vec!["KIND", "SIGNER", "FORM", "SIGNED", "DETAIL"];
        if wide {
            headers.extend(["IMAGE", "DIGEST", "FOUND-IN"]);
        }
        let mut table = Table::new(headers);
        let shown = |value: Option<String>| value.unwrap_or_else(|| NONE.to_owned());
        for row in &self.statements {
            let detail = row.predicate_type.clone().or_else(|| row.cause.clone());
            let mut cells = vec![
                format!("{:?}", row.kind),
                shown(row.signer.clone()),
                shown(row.form.map(|form| format!("{form:?}"))),
                shown(row.proven.or(row.claimed).map(|at| at.to_string())),
                shown(detail),
            ];
            if wide {
                let place = row.layer.map_or_else(
                    || row.manifest.to_string(),
                    |layer| format!("{} layer {layer}", row.manifest),
                );
                cells.extend([
                    self.image.clone(),
                    shown(self.digest.as_ref().map(ToString::to_string)),
                    place,
                ]);
            }
            table.row(cells);
        }
        table.to_string()
    }

    fn outcome(&self) -> Outcome {
        self.outcome
    }
}
