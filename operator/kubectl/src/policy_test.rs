//! `kubectl berth policy test`: what policies of files say about images, before anybody applies them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use berth_operator_core::{
    decision::Look,
    image_policy::{InvalidPolicy, Material, Rules, secrets},
};
use berth_registry_core::{ImageReference, reference::InvalidImageReference};
use clap::Args;
use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    cluster::{ClusterRegistries, Flags, OPERATOR_NAMESPACE},
    documents::{DocumentError, Documents, WrittenPolicy},
    judge::{Effect, Judge, NotInOrder, Sentence, look, material, unseen},
    output::{Outcome, Report},
    registries::{Access, AccessError, Registries},
    table::Table,
};

/// Images that are looked at at the same time.
const CONCURRENCY: usize = 8;

/// What to test on what.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    #[arg(
        short,
        long = "filename",
        value_name = "FILE",
        required = true,
        help = "File or folder with ImagePolicies and the Secrets that they name; - reads standard input. Several: all must hold"
    )]
    pub(crate) filename: Vec<PathBuf>,
    /// Image to test, as a Pod would name it; without any, the Pods that run in the cluster are tested.
    #[arg(long, value_name = "REF")]
    pub(crate) image: Vec<String>,
    #[command(flatten)]
    pub(crate) access: Access,
}

/// Why nothing was tested.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TestError {
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error(transparent)]
    Image(#[from] InvalidImageReference),
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error("{source}{}", cure(&source.cause))]
    Policy {
        #[from]
        source: NotInOrder,
    },
}

/// What all policies say about all images.
#[derive(Debug, Serialize)]
pub(crate) struct Tested {
    outcome: Outcome,
    results: Vec<Sentence>,
}

/// Where a policy is that does not say it, as kubectl has it.
const DEFAULT_NAMESPACE: &str = "default";

/// Tests the policies of files on images. The cluster is asked for nothing but images in its own Registries.
pub(crate) async fn run(arguments: &Arguments, flags: &Flags) -> Result<Tested, TestError> {
    let documents = Documents::read(&arguments.filename)?;
    let judges = judges(&documents, flags)?;
    let images: Vec<ImageReference> =
        arguments.image.iter().map(|image| image.parse()).collect::<Result<_, _>>()?;
    let hosts: BTreeSet<_> = images.iter().map(|image| image.host.as_str()).collect();
    let registries = ClusterRegistries::on_demand(flags.clone(), Registries::new(&arguments.access, &hosts)?);
    let results = stream::iter(&images).map(|image| test(image, &judges, &registries)).buffered(CONCURRENCY);
    let results: Vec<Sentence> = results.collect::<Vec<_>>().await.into_iter().flatten().collect();
    for image in &images {
        let shown = image.to_string();
        let mut about = results.iter().filter(|result| result.image == shown);
        if about.all(|result| result.verdict == Effect::NotMatched) {
            eprintln!("note: no policy speaks about {image}");
        }
    }
    let outcome = results.iter().map(|result| result.verdict.outcome()).max().unwrap_or(Outcome::Admitted);
    Ok(Tested { outcome, results })
}

/// The policies of files with their rules, each in order.
fn judges(documents: &Documents, flags: &Flags) -> Result<Vec<Judge>, TestError> {
    let namespace = flags.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
    let operator = flags.operator_namespace.as_deref().unwrap_or(OPERATOR_NAMESPACE);
    let judge = |written: &WrittenPolicy| {
        let namespace = written.namespace.as_deref().unwrap_or(namespace);
        let found =
            |name: &str| documents.secret(namespace, name).map_or(Material::NotFound, |it| material(&it));
        let secrets: BTreeMap<_, _> =
            secrets(&written.spec).into_iter().map(|name| (name.to_owned(), found(name))).collect();
        let rules = Rules::new(&written.spec, &secrets);
        Ok(Judge::new(operator, namespace, &written.name, rules).in_order()?)
    };
    documents.policies.iter().map(judge).collect()
}

/// What somebody without a cluster can do about a policy.
fn cure(cause: &InvalidPolicy) -> &'static str {
    if matches!(cause, InvalidPolicy::SecretNotFound { .. }) { ": give its file with -f, too" } else { "" }
}

/// All policies on one image, which is looked at once.
async fn test(image: &ImageReference, judges: &[Judge], registries: &ClusterRegistries) -> Vec<Sentence> {
    let asked = |judge| (judge, Judge::subject(judge, image), judge.not_asked(&registries.outside, image));
    let asked: Vec<_> = judges.iter().map(asked).collect();
    let asking = asked.iter().filter(|(_, subject, not_asked)| subject.is_some() && not_asked.is_none());
    let asking = asking.filter_map(|(judge, ..)| judge.policy());
    let now = Timestamp::now();
    let seen = if asking.clone().all(|policy| policy.settled(image, None, now).is_some()) {
        Look::NotNeeded
    } else {
        match registries.client(image, None).await {
            Ok(client) => {
                let anchors = asking.flat_map(|policy| policy.anchors().clone()).collect();
                look(&client, image, &anchors).await
            }
            Err(error) => unseen(&error.into()),
        }
    };
    let sentence = |(judge, subject, not_asked): (&Judge, Option<_>, Option<_>)| match subject {
        Some(subject) => judge.sentence(image, subject, not_asked.as_ref().unwrap_or(&seen), now),
        None => judge.silence(image),
    };
    asked.into_iter().map(sentence).collect()
}

impl Report for Tested {
    fn text(&self, wide: bool) -> String {
        let digest = |result: &Sentence| result.digest.as_ref().map(ToString::to_string).unwrap_or_default();
        if wide {
            let mut table = Table::new(["IMAGE", "DIGEST", "POLICY", "MODE", "VERDICT", "REASON", "MESSAGE"]);
            for it in &self.results {
                let verdict = it.verdict.to_string();
                let (image, policy) = (it.image.clone(), it.policy.clone());
                let mode = it.mode.to_owned();
                table.row([image, digest(it), policy, mode, verdict, it.reason.clone(), it.message.clone()]);
            }
            return table.to_string();
        }
        let mut table = Table::new(["IMAGE", "POLICY", "VERDICT", "MESSAGE"]);
        for it in &self.results {
            table.row([it.image.clone(), it.policy.clone(), it.verdict.to_string(), it.message.clone()]);
        }
        table.to_string()
    }

    fn outcome(&self) -> Outcome {
        self.outcome
    }
}
