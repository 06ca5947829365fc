//! What policies say about a namespace, in the form that dashboards read: a `PolicyReport` of `wgpolicyk8s.io/v1alpha2`.
//! Without times, so that the same findings are the same report.

use std::collections::BTreeMap;

use berth_trust::Verdict;
use k8s_openapi::{
    Metadata, NamespaceResourceScope, Resource, api::core::v1::ObjectReference,
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::{Deserialize, Serialize};

use crate::{
    admission::Mode,
    objects::{self, APPLIED_HASH, MANAGED_BY, labels},
    running::{Question, Standing},
};

/// The name of the report of each namespace.
pub const REPORT: &str = "berth";

/// Results that are told one by one; the rest are counted.
const MAX_RESULTS: usize = 500;

/// The longest message, in characters: together they stay well below what the API server stores.
const MAX_MESSAGE: usize = 1000;

/// What policies say about a namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyReport {
    api_version: String,
    kind: String,
    metadata: ObjectMeta,
    /// All results, those that are not told included.
    #[serde(default)]
    pub summary: Summary,
    /// What does not hold, the gravest first.
    #[serde(default)]
    pub results: Vec<ReportResult>,
}

/// How many images of workloads came to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// Admitted.
    pub pass: i64,
    /// Refused by a policy that enforces.
    pub fail: i64,
    /// Refused by one that warns or audits.
    pub warn: i64,
    /// Could not be checked.
    pub error: i64,
    /// Excepted.
    pub skip: i64,
}

/// What one policy says about one image of a workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportResult {
    /// `NAMESPACE/NAME`.
    pub policy: String,
    /// What it came to.
    pub result: Outcome,
    /// What made the Pods.
    #[serde(default)]
    pub resources: Vec<ObjectReference>,
    /// As the webhook says it.
    #[serde(default)]
    pub message: String,
    /// Who says so.
    #[serde(default)]
    pub source: String,
    /// The stable name of the cause, the image, its digest, and whether the Pod is static.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
}

/// As the API has it. The gravest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// See [`Summary`].
    Fail,
    /// See [`Summary`].
    Error,
    /// See [`Summary`].
    Warn,
    /// See [`Summary`].
    Pass,
    /// See [`Summary`].
    Skip,
}

impl Resource for PolicyReport {
    const API_VERSION: &'static str = "wgpolicyk8s.io/v1alpha2";
    const GROUP: &'static str = "wgpolicyk8s.io";
    const KIND: &'static str = "PolicyReport";
    const VERSION: &'static str = "v1alpha2";
    const URL_PATH_SEGMENT: &'static str = "policyreports";
    type Scope = NamespaceResourceScope;
}

impl Metadata for PolicyReport {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// The report of each namespace in which something is bound. `policies` are those that the questions count, each with its
/// name and its mode.
pub fn reports(
    policies: &[(String, Mode)],
    questions: &[Question],
    standings: &[Standing],
) -> BTreeMap<String, PolicyReport> {
    let mut found = BTreeMap::<String, PolicyReport>::new();
    for (question, standing) in questions.iter().zip(standings) {
        let Some((policy, mode)) = policies.get(question.policy) else { continue };
        let namespace = &question.template.workload.namespace;
        let report = found.entry(namespace.clone()).or_insert_with(|| PolicyReport::empty(namespace));
        let outcome = outcome(&standing.finding.verdict, *mode);
        let Summary { pass, fail, warn, error, skip } = &mut report.summary;
        *match outcome {
            Outcome::Pass => pass,
            Outcome::Fail => fail,
            Outcome::Warn => warn,
            Outcome::Error => error,
            Outcome::Skip => skip,
        } += 1;
        if !matches!(outcome, Outcome::Pass | Outcome::Skip) {
            report.results.push(result(policy, outcome, question, standing));
        }
    }
    for report in found.values_mut() {
        // Stable: questions come sorted by workload.
        report.results.sort_by_key(|result| result.result);
        let untold = report.results.len().saturating_sub(MAX_RESULTS);
        if let Some(first) = report.results.get(MAX_RESULTS) {
            let rest = ReportResult {
                message: format!("and {untold} more, which the summary counts"),
                resources: Vec::new(),
                properties: BTreeMap::new(),
                ..first.clone()
            };
            report.results.truncate(MAX_RESULTS);
            report.results.push(rest);
        }
    }
    found
}

impl PolicyReport {
    /// Of a namespace about which nothing is to be said.
    pub fn empty(namespace: &str) -> Self {
        Self {
            api_version: Self::API_VERSION.to_owned(),
            kind: Self::KIND.to_owned(),
            metadata: ObjectMeta {
                name: Some(REPORT.to_owned()),
                namespace: Some(namespace.to_owned()),
                labels: Some(labels(&[MANAGED_BY])),
                ..ObjectMeta::default()
            },
            ..Self::default()
        }
    }

    /// The hash that it was [sealed](objects::sealed) with, if it still says what was sealed. What others have added beside
    /// that is theirs.
    pub fn intact(&self) -> Option<String> {
        let applied = self.metadata.annotations.as_ref()?.get(APPLIED_HASH)?;
        let said = Self {
            summary: self.summary,
            results: self.results.clone(),
            ..Self::empty(self.metadata.namespace.as_deref()?)
        };
        (objects::hash(&said) == *applied).then(|| applied.clone())
    }
}

fn outcome(verdict: &Verdict, mode: Mode) -> Outcome {
    match (verdict, mode) {
        (Verdict::Admit { .. }, _) => Outcome::Pass,
        (Verdict::Excepted { .. }, _) => Outcome::Skip,
        (Verdict::CouldNotCheck { .. }, _) => Outcome::Error,
        (Verdict::Deny { .. }, Mode::Enforce) => Outcome::Fail,
        (Verdict::Deny { .. }, Mode::Warn | Mode::Audit) => Outcome::Warn,
    }
}

fn result(policy: &str, outcome: Outcome, question: &Question, standing: &Standing) -> ReportResult {
    let (subject, finding) = (&question.subject, &standing.finding);
    let workload = &question.template.workload;
    let explanation = match &subject.image {
        Ok(image) => finding.verdict.explain(image, finding.digest.as_ref()),
        Err(error) => error.to_string(),
    };
    let digest = finding.digest.as_ref().map(|digest| ("digest", digest.to_string()));
    let is_static = workload.is_static.then(|| ("static", "true".to_owned()));
    let properties = [("reason", finding.verdict.reason().to_owned()), ("image", subject.shown())];
    let properties = properties.into_iter().chain(digest).chain(is_static);
    let unasked = if workload.is_static { "; a static Pod, which no policy can refuse" } else { "" };
    ReportResult {
        policy: policy.to_owned(),
        result: outcome,
        resources: vec![ObjectReference {
            api_version: Some(workload.api_version.clone()),
            kind: Some(workload.kind.clone()),
            namespace: Some(workload.namespace.clone()),
            name: Some(workload.name.clone()),
            ..ObjectReference::default()
        }],
        message: format!("{explanation} ({}{unasked})", subject.places()).chars().take(MAX_MESSAGE).collect(),
        source: REPORT.to_owned(),
        properties: properties.map(|(key, value)| (key.to_owned(), value)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        admission::{Finding, Subject},
        images::{ImageUse, Place},
        running::{Template, Workload},
    };
    use jiff::Timestamp;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn question(policy: usize, namespace: &str, name: &str) -> Question {
        let image = "r.io/web:1";
        let place = ImageUse {
            place: Place::Container,
            name: "web".into(),
            path: "spec.containers[0].image".into(),
            image: image.into(),
        };
        Question {
            policy,
            template: Template::deployment(namespace, name),
            pods: vec!["p".into()],
            subject: Subject { image: image.parse(), uses: vec![place] },
            look: image.parse().ok(),
        }
    }

    fn of_a_static_pod(question: Question) -> Question {
        let mut template = Template::clone(&question.template);
        let (kind, api_version) = ("Pod".to_owned(), "v1".to_owned());
        template.workload = Workload { kind, api_version, is_static: true, ..template.workload };
        Question { template: template.into(), ..question }
    }

    fn standing(verdict: Verdict) -> Standing {
        Standing::unknown(Finding { verdict, digest: None })
    }

    fn policies() -> [(String, Mode); 3] {
        [("team-a/strict", Mode::Enforce), ("team-a/mild", Mode::Warn), ("berth-system/quiet", Mode::Audit)]
            .map(|(name, mode)| (name.to_owned(), mode))
    }

    /// R-OPR-7: one report a namespace, the gravest first, all of them counted.
    #[test]
    fn what_does_not_hold_is_told() {
        let denied = Verdict::image_not_found;
        let excepted =
            Verdict::Excepted { reason: "r".into(), owner: "o".into(), expires: Timestamp::UNIX_EPOCH };
        let unknown = Verdict::could_not_check("Unreachable", "the registry is down", true);
        let answers = [
            (question(2, "team-a", "api"), denied()),
            (question(1, "team-a", "api"), denied()),
            (question(0, "team-a", "db"), unknown),
            (question(0, "team-a", "web"), denied()),
            (question(0, "team-a", "old"), excepted),
            (question(0, "team-b", "web"), Verdict::Admit { grounds: [].into() }),
            (of_a_static_pod(question(0, "team-c", "web-node-1")), denied()),
        ];
        let (questions, verdicts): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
        let standings: Vec<_> = verdicts.into_iter().map(standing).collect();
        insta::assert_yaml_snapshot!(reports(&policies(), &questions, &standings));
    }

    #[test]
    fn a_report_is_bounded() {
        let questions: Vec<_> = (0..600).map(|n| question(0, "team-a", &format!("web-{n}"))).collect();
        let standings = vec![standing(Verdict::image_not_found()); 600];
        let report = reports(&policies(), &questions, &standings).remove("team-a").unwrap();
        assert_eq!((report.summary.fail, report.results.len()), (600, MAX_RESULTS + 1));
        assert_eq!(report.results[MAX_RESULTS].message, "and 100 more, which the summary counts");
    }

    /// What a report says is compared with what it was applied with; marks of others beside that change nothing.
    #[rstest]
    #[case::as_it_was("/metadata/resourceVersion", json!("7"), true)]
    #[case::others_label("/metadata/labels/team", json!("web"), true)]
    #[case::others_annotation("/metadata/annotations/note", json!("seen"), true)]
    #[case::others_field("/scope", json!({"kind": "Namespace"}), true)]
    #[case::count("/summary/fail", json!(0), false)]
    #[case::result("/results/0/result", json!("pass"), false)]
    #[case::message("/results/0/message", json!("all is well"), false)]
    #[case::workload("/results/0/resources/0/name", json!("db"), false)]
    #[case::digest("/results/0/properties/digest", json!("sha256:0"), false)]
    #[case::no_results("/results", json!([]), false)]
    #[case::no_hash("/metadata/annotations", json!({}), false)]
    fn an_edited_report_is_known(#[case] path: &str, #[case] value: Value, #[case] intact: bool) {
        let (questions, standings) = ([question(0, "team-a", "web")], [standing(Verdict::image_not_found())]);
        let desired = reports(&policies(), &questions, &standings).remove("team-a").unwrap();
        let mut stored = json!(objects::sealed(&desired));
        let (parent, key) = path.rsplit_once('/').unwrap();
        stored.pointer_mut(parent).unwrap()[key] = value;
        let stored: PolicyReport = serde_json::from_value(stored).unwrap();
        assert_eq!(stored.intact(), intact.then(|| objects::hash(&desired)));
    }
}
