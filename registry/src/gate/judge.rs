//! What all policies of the gate together say about an image. Pure: evidence and time come in, words come out, and they are
//! those that the webhook would use.

use berth_registry_core::{
    Digest, ImageReference,
    config::{self, GatePolicy, OutOfOrder},
};
use berth_trust::{Anchors, Bounds, Evidence, Facts, InvalidWritten, Judgement, Policy, Verdict, printable};
use jiff::Timestamp;

/// A gate that cannot be; the message says what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGate {
    /// Patterns could not match.
    #[error(
        "gate.host {0:?} is no host as policies name it: write it in lower case, without https:// and without :443"
    )]
    Host(String),
    /// A policy that judges and does not.
    #[error("gate.policies[{index}] ({name}): write exactly one of policy and refuses")]
    Entry {
        /// Of the entry.
        index: usize,
        /// Of the policy.
        name: String,
    },
    /// A policy that makes no sense.
    #[error("gate.policies[{index}] ({name}): policy.{error}")]
    Policy {
        /// Of the entry.
        index: usize,
        /// Of the policy.
        name: String,
        /// Which field, and what is wrong.
        error: InvalidWritten,
    },
}

/// One policy.
pub(super) struct Judge {
    name: String,
    rule: Rule,
}

enum Rule {
    Policy(Policy),
    OutOfOrder(OutOfOrder),
}

/// Why an image is refused.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The policies that refuse it, `NAMESPACE/NAME` each.
    pub policies: Vec<String>,
    /// For people: what was found, what is missing, how to cure it.
    pub message: String,
}

/// What all policies say together.
pub(super) struct Opinion {
    /// None: nothing speaks against the image.
    pub(super) refusal: Option<Refusal>,
    /// The first instant at which they may say something else.
    pub(super) until: Option<Timestamp>,
}

/// The policies of a gate.
pub(super) fn judges(gate: &config::Gate) -> Result<Vec<Judge>, InvalidGate> {
    let example = format!("{}/a", gate.host).parse::<ImageReference>();
    if !example.is_ok_and(|example| example.host == gate.host) {
        return Err(InvalidGate::Host(gate.host.clone()));
    }
    let judge = |(index, GatePolicy { name, policy, refuses }): (usize, &GatePolicy)| {
        let rule = match (policy, refuses) {
            (Some(policy), None) => Policy::compile(policy)
                .map(Rule::Policy)
                .map_err(|error| InvalidGate::Policy { index, name: name.clone(), error })?,
            (None, Some(refuses)) => Rule::OutOfOrder(refuses.clone()),
            _ => return Err(InvalidGate::Entry { index, name: name.clone() }),
        };
        Ok(Judge { name: name.clone(), rule })
    };
    gate.policies.iter().enumerate().map(judge).collect()
}

impl Judge {
    /// Whether it has a say about an image.
    pub(super) fn speaks_about(&self, image: &ImageReference) -> bool {
        match &self.rule {
            Rule::Policy(policy) => policy.applies_to(image),
            Rule::OutOfOrder(out) => {
                let name = image.name();
                out.images.iter().any(|pattern| pattern.matches(&name))
            }
        }
    }

    fn refuses(&self, image: &ImageReference, verdict: &Verdict) -> Option<String> {
        let words = || verdict.explain(image, image.digest.as_ref());
        (!verdict.is_admitted()).then(|| printable(&format!("{} (ImagePolicy {})", words(), self.name)))
    }
}

/// What takes no evidence; none if a policy needs some.
pub(super) fn settled(judges: &[Judge], image: &ImageReference, now: Timestamp) -> Option<Opinion> {
    let settled = |policy: &Policy| policy.settled(image, image.digest.as_ref(), now);
    let open = judges.iter().any(|judge| match &judge.rule {
        Rule::Policy(policy) => settled(policy).is_none(),
        Rule::OutOfOrder(_) => false,
    });
    (!open).then(|| opinion(judges, image, |_| could_not_check("it was not looked at"), now))
}

/// What is said when there is more evidence than anybody looks at.
pub(super) fn uncheckable(judges: &[Judge], image: &ImageReference, what: &str) -> Opinion {
    opinion(judges, image, |_| could_not_check(what), Timestamp::now())
}

/// What is said in view of the evidence.
pub(super) fn judged(
    judges: &[Judge],
    image: &ImageReference,
    evidence: &Evidence,
    now: Timestamp,
) -> Opinion {
    let policies = judges.iter().filter_map(|judge| match &judge.rule {
        Rule::Policy(policy) if policy.applies_to(image) => Some(policy),
        Rule::Policy(_) | Rule::OutOfOrder(_) => None,
    });
    let anchors: Anchors = policies.flat_map(|policy| policy.anchors().clone()).collect();
    match Facts::establish(evidence, &anchors, &Bounds::default()) {
        Ok(facts) => opinion(judges, image, |policy| policy.verdict(image, &facts, now), now),
        Err(error) => {
            let verdict = Verdict::from(error);
            opinion(judges, image, |_| Judgement { verdict: verdict.clone(), until: None }, now)
        }
    }
}

fn could_not_check(what: &str) -> Judgement {
    Judgement { verdict: Verdict::could_not_check("TooMuchEvidence", what, false), until: None }
}

/// Asks each policy that has a say: what it can settle without evidence by itself, the others through `judge`.
fn opinion(
    judges: &[Judge],
    image: &ImageReference,
    judge: impl Fn(&Policy) -> Judgement,
    now: Timestamp,
) -> Opinion {
    let digest: Option<&Digest> = image.digest.as_ref();
    let (mut names, mut words, mut until) = (Vec::new(), Vec::new(), None::<Timestamp>);
    for one in judges.iter().filter(|judge| judge.speaks_about(image)) {
        let refusal = match &one.rule {
            Rule::Policy(policy) => {
                let judgement = policy.settled(image, digest, now).unwrap_or_else(|| judge(policy));
                until = until.into_iter().chain(judgement.until).min();
                one.refuses(image, &judgement.verdict)
            }
            Rule::OutOfOrder(OutOfOrder { cause, .. }) => {
                Some(printable(&format!("ImagePolicy {}: cannot judge {image}: {cause}", one.name)))
            }
        };
        if let Some(refusal) = refusal {
            names.push(one.name.clone());
            words.push(refusal);
        }
    }
    let refused = !names.is_empty();
    Opinion { refusal: refused.then(|| Refusal { policies: names, message: words.join("\n") }), until }
}
