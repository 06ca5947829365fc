//! From policies and Pods to questions: which policy speaks about which image of which workload, and by what digest the
//! image is to be looked at. One question for all Pods of a workload that give the same answer.

use std::{collections::BTreeMap, sync::Arc};

use berth_registry_core::ImageReference;

use crate::{
    admission::{Subject, subjects},
    image_policy::Rules,
    images::Place,
    running::{Binding, Digests, Labels, Pods, Template},
};

/// Which digest of an image is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one that its name stands for now, as it would be if the Pod were made anew. Static Pods are left out: nobody is
    /// asked about them.
    Named,
    /// The one that runs.
    Running,
}

/// What a policy is asked about one image of a workload.
#[derive(Clone, Debug)]
pub struct Question {
    /// Which of the policies.
    pub policy: usize,
    /// What the Pods have in common.
    pub template: Arc<Template>,
    /// Their names.
    pub pods: Vec<String>,
    /// The image as they name it, and where.
    pub subject: Subject,
    /// The image that a registry is to be asked about; none if the text names no image.
    pub look: Option<ImageReference>,
}

/// What `policies` have to say about `pods` in `namespaces` with these labels, sorted by workload.
pub fn questions(
    policies: &[(&Rules, &Binding)],
    namespaces: &BTreeMap<String, Labels>,
    pods: &Pods,
    which: Which,
) -> Vec<Question> {
    let mut found = BTreeMap::<_, Question>::new();
    for (template, running) in pods.groups() {
        let Some(labels) = namespaces.get(&template.workload.namespace) else { continue };
        if template.workload.is_static && which == Which::Named {
            continue;
        }
        for (policy, (rules, binding)) in policies.iter().enumerate() {
            if !binding.binds(labels, &template.labels) {
                continue;
            }
            // A Pod with more images than a review may have is refused for that.
            for subject in subjects(&rules.images, template.uses.clone()).unwrap_or_default() {
                for (pod, digests) in running {
                    let look = look(&subject, digests, which);
                    let text = look.as_ref().map(ToString::to_string);
                    let key = (&template.workload, policy, subject.shown(), text, &template.pulling);
                    let question = found.entry(key).or_insert_with(|| Question {
                        policy,
                        template: template.clone(),
                        pods: Vec::new(),
                        subject: subject.clone(),
                        look,
                    });
                    question.pods.push(pod.clone());
                }
            }
        }
    }
    found.into_values().collect()
}

/// By the digest that runs, if that is wanted, known and not what the name says anyway.
fn look(subject: &Subject, digests: &Digests, which: Which) -> Option<ImageReference> {
    let image = subject.image.as_ref().ok()?;
    if which == Which::Named || image.digest.is_some() {
        return Some(image.clone());
    }
    let mut containers = subject.uses.iter().filter(|place| place.place != Place::ImageVolume);
    let runs = containers.find_map(|place| digests.get(&place.name));
    Some(runs.map_or_else(|| image.clone(), |digest| image.pinned(digest.clone())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::labels;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn digest(text: &str) -> String {
        berth_registry_core::Digest::sha256(text.as_bytes()).to_string()
    }

    /// A Pod of the Deployment `web` that runs what `tag` was when its digest was that of `text`.
    fn pod(number: u8, image: &str, text: &str) -> Value {
        let id = image.split_once(['@', ':']).map_or(image, |(name, _)| name);
        json!({
            "metadata": {
                "name": format!("web-{number}"), "namespace": "team-a",
                "labels": {"pod-template-hash": "5d4f", "number": number.to_string()},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d4f", "uid": "u", "controller": true}],
            },
            "spec": {
                "containers": [{"name": "web", "image": image}, {"name": "log", "image": "elsewhere.io/log"}],
                "volumes": [{"name": "web", "image": {"reference": "r.io/model:1"}}],
            },
            "status": {"phase": "Running", "containerStatuses": [{
                "name": "web", "image": image, "imageID": format!("{id}@{}", digest(text)), "ready": true, "restartCount": 0,
            }]},
        })
    }

    fn asked(pods: &[Value], which: Which) -> Vec<(String, Vec<String>)> {
        let spec = json!({"mode": "Enforce", "images": ["r.io/**"], "require": [{"digest": {}}]});
        let spec = serde_json::from_value(spec).unwrap();
        let rules = Rules::new(&spec, &BTreeMap::new());
        let binding = Binding::new("berth-system", "team-a", "p", Some(&spec)).unwrap();
        let namespaces = [("team-a".to_owned(), labels(&[("kubernetes.io/metadata.name", "team-a")]))].into();
        let mut running = Pods::default();
        for pod in pods {
            running.apply(&serde_json::from_value(pod.clone()).unwrap()).unwrap();
        }
        questions(&[(&rules, &binding)], &namespaces, &running, which)
            .into_iter()
            .map(|question| (question.look.map(|it| it.to_string()).unwrap_or_default(), question.pods))
            .collect()
    }

    fn all() -> Vec<String> {
        vec!["web-1".into(), "web-2".into()]
    }

    /// Labels that differ from Pod to Pod make no second question; a tag that was moved between two Pods does.
    #[test]
    fn pods_that_run_the_same_are_one_question() {
        let same = [pod(1, "r.io/web:1", "a"), pod(2, "r.io/web:1", "a")];
        let model = ("r.io/model:1".to_owned(), all());
        let runs = |text: &str| format!("r.io/web@{}", digest(text));
        assert_eq!(asked(&same, Which::Running), [model.clone(), (runs("a"), all())]);
        let moved = [pod(1, "r.io/web:1", "a"), pod(2, "r.io/web:1", "b")];
        let mut expected =
            vec![model.clone(), (runs("a"), vec!["web-1".into()]), (runs("b"), vec!["web-2".into()])];
        expected.sort();
        assert_eq!(asked(&moved, Which::Running), expected);
        assert_eq!(asked(&moved, Which::Named), [model, ("r.io/web:1".to_owned(), all())]);
    }

    #[rstest]
    #[case(Which::Named)]
    #[case(Which::Running)]
    fn a_digest_that_is_written_decides(#[case] which: Which) {
        let written = format!("r.io/web@{}", digest("written"));
        let found = asked(&[pod(1, &written, "other")], which);
        assert_eq!(found[1].0, written);
    }

    /// A policy speaks about what static Pods run, and foretells nothing of them.
    #[rstest]
    #[case(Which::Running, 2)]
    #[case(Which::Named, 0)]
    fn static_pods_are_judged_and_not_refused(#[case] which: Which, #[case] questions: usize) {
        let mut mirror = pod(1, "r.io/web:1", "a");
        mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "4f1c"});
        assert_eq!(asked(&[mirror], which).len(), questions);
    }

    #[test]
    fn a_text_that_names_no_image_is_asked_about() {
        assert_eq!(asked(&[pod(1, "UPPER/CASE", "a")], Which::Running)[0].0, "");
    }
}
