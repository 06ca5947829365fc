//! What the API server posts to the webhook. Input: an `AdmissionReview`.

use std::collections::BTreeSet;

use berth_operator_core::admission::{self, Answer, Finding, Mode, ReviewError, Uncheckable};
use berth_registry_core::ImageReference;

pub(crate) fn run(input: &[u8]) {
    let Ok(request) = admission::parse(input) else { return };
    let Ok(uses) = request.images_to_check() else { return };
    let texts: BTreeSet<_> = uses.iter().map(|it| it.image.clone()).collect();
    let subjects = match admission::subjects(&["**".parse().unwrap()], uses.clone()) {
        Ok(subjects) => subjects,
        Err(ReviewError::TooManyImages(count)) => {
            assert!(count > admission::MAX_IMAGES && count <= texts.len());
            return;
        }
        Err(other) => unreachable!("{other}"),
    };
    assert_eq!(subjects.iter().map(|subject| subject.uses.len()).sum::<usize>(), uses.len());
    for subject in &subjects {
        if let Ok(image) = &subject.image {
            assert_eq!(subject.shown().parse::<ImageReference>().as_ref(), Ok(image));
        }
    }
    let findings: Vec<_> = subjects
        .into_iter()
        .map(|subject| (subject, Finding::uncheckable("Unavailable", "it does not answer", true)))
        .collect();
    for (mode, uncheckable) in [
        (Mode::Enforce, Uncheckable::Deny),
        (Mode::Enforce, Uncheckable::Warn),
        (Mode::Warn, Uncheckable::Deny),
        (Mode::Audit, Uncheckable::Deny),
    ] {
        let answer = Answer::judge("berth/all", mode, uncheckable, &findings);
        let enforced = (mode, uncheckable) == (Mode::Enforce, Uncheckable::Deny);
        assert_eq!(answer.allowed, findings.is_empty() || !enforced);
        assert_eq!(answer.message.is_empty(), answer.allowed);
        let told = answer.message.lines().chain(answer.warnings.iter().map(String::as_str));
        assert!(told.flat_map(str::chars).all(|c| !c.is_control()));
        let reply = serde_json::to_value(answer.review(&request.uid)).unwrap();
        assert_eq!(reply["response"]["allowed"], answer.allowed);
    }
}
