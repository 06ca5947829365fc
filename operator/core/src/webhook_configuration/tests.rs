//! The configuration as the API server gets it: who is called for what, what it costs, and what happens at its limit
//! (R-OPR-6, R-OPS-3).

use super::*;
use crate::labels::are_selected;
use proptest::prelude::*;
use rstest::rstest;
use serde_json::Value;

const OPERATOR: &str = "berth-system";

fn installation() -> Installation {
    Installation { namespace: OPERATOR.into(), ca_bundle: b"PEM".to_vec() }
}

fn entry(namespace: &str, name: &str, mode: Mode) -> Entry {
    Entry { namespace: namespace.into(), name: name.into(), mode, namespaces: None, objects: None }
}

fn selecting(labels: &[(&str, &str)], expressions: Vec<LabelSelectorRequirement>) -> Entry {
    let selector =
        LabelSelector { match_labels: Some(objects::labels(labels)), match_expressions: Some(expressions) };
    Entry { namespaces: Some(selector), ..entry(OPERATOR, "prod", Mode::Enforce) }
}

fn rendered(entries: &[Entry]) -> Value {
    serde_json::to_value(build(&installation(), entries, None).configuration).unwrap()
}

#[test]
fn without_policies_nothing_is_called() {
    insta::assert_json_snapshot!(rendered(&[]));
}

#[test]
fn a_namespaced_policy_binds_its_own_namespace() {
    insta::assert_json_snapshot!(rendered(&[entry("team-a", "signed", Mode::Enforce)]));
}

/// The exemptions stand beside whatever the policy selects (R-OPR-6: no lock-out).
#[test]
fn a_cluster_policy_never_binds_the_operator_and_kube_system() {
    let production = LabelSelectorRequirement {
        key: "env".into(),
        operator: "In".into(),
        values: Some(vec!["prod".into()]),
    };
    let entries = [selecting(&[("team", "a")], vec![production]), entry(OPERATOR, "all", Mode::Warn)];
    let selectors: Vec<_> = rendered(&entries)["webhooks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|webhook| (webhook["name"].clone(), webhook["namespaceSelector"].clone()))
        .collect();
    insta::assert_json_snapshot!(selectors);
}

/// A tenant cannot reach other namespaces with a selector.
#[test]
fn a_selector_outside_the_operators_namespace_has_no_say() {
    let mut tenant = selecting(&[("env", "prod")], vec![]);
    tenant.namespace = "team-a".into();
    let plain = entry("team-a", "prod", Mode::Enforce);
    assert_eq!(rendered(&[tenant]), rendered(&[plain]));
}

/// Labels of objects narrow a cluster policy. Those that a tenant's policy selects are the webhook server's to look at, so
/// that no tenant can fill the configuration.
#[test]
fn labels_of_objects_narrow_a_policy() {
    let selector =
        LabelSelector { match_labels: Some(objects::labels(&[("app", "web")])), match_expressions: None };
    let narrowed =
        |namespace| Entry { objects: Some(selector.clone()), ..entry(namespace, "web", Mode::Enforce) };
    let mut expected = rendered(&[entry(OPERATOR, "web", Mode::Enforce)]);
    assert_eq!(expected["webhooks"][0]["objectSelector"], serde_json::json!({}));
    expected["webhooks"][0]["objectSelector"] = serde_json::json!({"matchLabels": {"app": "web"}});
    assert_eq!(rendered(&[narrowed(OPERATOR)]), expected);
    assert_eq!(rendered(&[narrowed("team-a")]), rendered(&[entry("team-a", "any", Mode::Enforce)]));
}

/// A tenant's policy stands beside the cluster's and changes nothing in it (R-OPR-6: several policies on one image).
#[rstest]
#[case(Mode::Enforce)]
#[case(Mode::Warn)]
#[case(Mode::Audit)]
fn a_policy_leaves_the_entries_of_others_alone(#[case] mode: Mode) {
    let cluster = selecting(&[("env", "prod")], vec![]);
    let alone = rendered(std::slice::from_ref(&cluster));
    let tenant = Entry { objects: Some(LabelSelector::default()), ..entry("team-a", "prod", mode) };
    let together = rendered(&[tenant, cluster]);
    let entries = together["webhooks"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    assert!(entries.contains(&alone["webhooks"][0]));
}

#[rstest]
#[case("team-a")]
#[case(OPERATOR)]
fn mode_decides_what_an_outage_means(#[case] namespace: &str) {
    for (mode, failure) in [(Mode::Enforce, "Fail"), (Mode::Warn, "Ignore"), (Mode::Audit, "Ignore")] {
        assert_eq!(rendered(&[entry(namespace, "b", mode)])["webhooks"][0]["failurePolicy"], failure);
    }
}

/// Each namespace is listed once: where something is enforced, an outage refuses, and elsewhere it never does.
#[test]
fn a_namespace_is_called_for_once_and_as_its_most_insistent_policy_asks() {
    let entries = [
        entry("a", "x", Mode::Audit),
        entry("a", "y", Mode::Enforce),
        entry("b", "x", Mode::Warn),
        entry("b", "y", Mode::Audit),
        entry("c", "x", Mode::Enforce),
    ];
    let rendered = rendered(&entries);
    let listed = |index: usize| {
        let webhook = &rendered["webhooks"][index];
        let names = &webhook["namespaceSelector"]["matchExpressions"][0]["values"];
        (webhook["failurePolicy"].clone(), webhook["clientConfig"]["service"]["path"].clone(), names.clone())
    };
    assert_eq!(listed(0), ("Fail".into(), OWN_PATH.into(), serde_json::json!(["a", "c"])));
    assert_eq!(listed(1), ("Ignore".into(), OWN_PATH.into(), serde_json::json!(["b"])));
}

#[test]
fn the_order_of_policies_does_not_show() {
    let mut entries = vec![
        entry("b", "a", Mode::Warn),
        entry("a", "z", Mode::Enforce),
        entry("a", "b", Mode::Enforce),
        entry(OPERATOR, "all", Mode::Audit),
        selecting(&[("x", "y")], vec![]),
    ];
    let first = rendered(&entries);
    entries.reverse();
    assert_eq!(first, rendered(&entries));
    let names: Vec<_> =
        first["webhooks"].as_array().unwrap().iter().map(|webhook| webhook["name"].clone()).collect();
    let expected = ["enforced", "advised", "all.berth-system", "prod.berth-system"];
    assert_eq!(names, expected.map(|name| format!("{name}.imgpol.berth.dev")));
}

/// The API server gives up later than we do.
#[test]
fn every_entry_is_answered_in_time_and_a_dry_run_leaves_nothing() {
    let webhook = &rendered(&[entry("a", "b", Mode::Enforce)])["webhooks"][0];
    assert_eq!((&webhook["timeoutSeconds"], &webhook["sideEffects"]), (&10.into(), &"NoneOnDryRun".into()));
}

/// A name that is no DNS name any more would have the API server refuse the entry, and with it all others.
#[test]
fn long_names_of_policies_make_short_names_of_entries() {
    let long = "p".repeat(253);
    let entries = [entry(OPERATOR, &long, Mode::Enforce), entry(OPERATOR, &long[1..], Mode::Enforce)];
    let rendered = rendered(&entries);
    let names = [0, 1].map(|index| rendered["webhooks"][index]["name"].as_str().unwrap());
    assert!(names[0] != names[1] && names.iter().all(|name| name.len() <= 253), "{names:?}");
}

/// Room for three certificates.
fn rotating() -> Installation {
    Installation { ca_bundle: vec![b'A'; 1900], ..installation() }
}

fn bytes(configuration: &ValidatingWebhookConfiguration) -> usize {
    serde_json::to_string(configuration).unwrap().len()
}

/// What a platform costs: five thousand namespaces, two entries, one write of 120 KB when the authority changes; no write
/// at all when a policy changes what it asks for, or joins others.
#[test]
fn thousands_of_policies_are_two_entries() {
    let tenants = |policies: &[&str]| -> Vec<_> {
        let names = (0..5000).map(|number| format!("team-{number:04}-production"));
        names
            .flat_map(|name| policies.iter().map(|p| entry(&name, p, Mode::Enforce)).collect::<Vec<_>>())
            .collect()
    };
    let built = build(&rotating(), &tenants(&["signed"]), None);
    assert_eq!(built.configuration.webhooks.as_ref().unwrap().len(), 1);
    assert!(bytes(&built.configuration) < 125_000, "{}", bytes(&built.configuration));
    assert!(built.left_out.is_empty());
    let more = build(&rotating(), &tenants(&["signed", "scanned"]), Some(&built.configuration));
    assert_eq!(more.configuration, built.configuration);
}

/// At the limit, what is in force stays, what is new is left out by name, and the API server takes the whole.
#[test]
fn what_does_not_fit_is_named() {
    let cluster = |range: std::ops::Range<usize>| {
        range.map(|number| entry(OPERATOR, &format!("policy-{number:03}"), Mode::Enforce)).collect::<Vec<_>>()
    };
    let old = build(&rotating(), &cluster(200..300), None);
    assert!(old.left_out.is_empty());
    let full = build(&rotating(), &cluster(0..400), Some(&old.configuration));
    let names = |built: &Built| -> BTreeSet<_> {
        built.configuration.webhooks.iter().flatten().map(|webhook| webhook.name.clone()).collect()
    };
    assert!(names(&full).is_superset(&names(&old)));
    assert_eq!(names(&full).len() + full.left_out.len(), 400);
    assert!(full.left_out.contains(&(OPERATOR.to_owned(), "policy-399".to_owned())));
    assert!(bytes(&full.configuration) < 1_500_000, "{}", bytes(&full.configuration));
    // A tenant still has room, because a namespace takes hardly any.
    let entries = [cluster(0..400), vec![entry("team-a", "signed", Mode::Enforce)]].concat();
    let with_tenant = build(&rotating(), &entries, None);
    assert!(!with_tenant.left_out.contains(&("team-a".to_owned(), "signed".to_owned())));
}

/// As a release before had it: an entry for each policy.
fn before(entries: &[Entry]) -> ValidatingWebhookConfiguration {
    let name = |entry: &Entry| format!("{}.{}.{DOMAIN}", entry.name, entry.namespace);
    let webhooks = entries.iter().map(|e| webhook(&installation(), Call::of(e, OPERATOR, name(e))));
    ValidatingWebhookConfiguration { webhooks: Some(webhooks.collect()), ..Default::default() }
}

/// Servers of the release before are told apart by what they are called for.
#[test]
fn the_configuration_of_the_release_before_is_known() {
    let entries = [entry(OPERATOR, "all", Mode::Enforce), entry("team-a", "signed", Mode::Warn)];
    assert!(is_of_before(&before(&entries), OPERATOR));
    assert!(!is_of_before(&build(&installation(), &entries, None).configuration, OPERATOR));
}

/// Whether the API server asks this policy about objects of that namespace, and takes no answer for a refusal.
fn is_enforced(live: &ValidatingWebhookConfiguration, entry: &Entry, namespace: &str) -> bool {
    let labels = objects::labels(&[(NAMESPACE_NAME, namespace)]);
    live.webhooks.iter().flatten().any(|webhook| {
        let path = webhook.client_config.service.as_ref().and_then(|service| service.path.clone()).unwrap();
        let asked = path == super::path(&entry.namespace, &entry.name)
            || path == OWN_PATH && entry.namespace == namespace;
        asked
            && webhook.failure_policy.as_deref() == Some("Fail")
            && are_selected(webhook.namespace_selector.as_ref().unwrap(), &labels)
    })
}

fn policies() -> impl Strategy<Value = Vec<Entry>> {
    let place = (prop::sample::select(vec![OPERATOR, "a", "b", "c"]), 0..4_u8);
    let mode = prop::sample::select(vec![Mode::Enforce, Mode::Enforce, Mode::Warn, Mode::Audit]);
    prop::collection::btree_map(place, mode, 0..10).prop_map(|policies| {
        let entry = |((namespace, name), mode)| entry(namespace, &format!("p{name}"), mode);
        policies.into_iter().map(entry).collect()
    })
}

proptest! {
    /// Whatever happens to policies, and whichever writes fail: what is enforced goes on being enforced, from the
    /// configuration of the release before on; and what is not, for want of room, is named.
    #[test]
    fn no_enforced_policy_is_ever_lost(
        first in policies(),
        steps in prop::collection::vec((policies(), any::<bool>(), 1..3000_usize), 1..8),
        room in 0..5 * 4096_usize,
    ) {
        let mut live = before(&first);
        let mut stored = first;
        for (policies, is_written, certificates) in steps {
            let installation = Installation { ca_bundle: vec![b'A'; certificates], ..installation() };
            let built = build_within(room, &installation, &policies, Some(&live));
            let after = if is_written { &built.configuration } else { &live };
            for entry in policies.iter().filter(|entry| entry.mode == Mode::Enforce) {
                let bound = if entry.namespace == OPERATOR { "elsewhere" } else { &entry.namespace };
                let is_left_out = built.left_out.contains(&(entry.namespace.clone(), entry.name.clone()));
                let is_after = is_enforced(after, entry, bound);
                if stored.contains(entry) && is_enforced(&live, entry, bound) {
                    prop_assert!(is_after && !is_left_out, "{entry:?} is lost");
                }
                prop_assert_eq!(is_written && !is_left_out, is_written && is_after);
            }
            live = after.clone();
            stored = policies;
        }
    }
}
