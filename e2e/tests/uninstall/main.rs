//! The last tests on a cluster: what the whole run has shown, and how Berth goes.
//! They need the cluster that `BERTH_CLUSTER` names, after all others, and say so when there is none.

use berth_e2e::chart::OPERATOR_NAMESPACE;
use berth_e2e::ensure;
use berth_e2e::fixtures::{Audit, NEWCOMER, Outcome, Request, pod, story};
use serde_json::json;

/// R-OPR-3, R-OPR-8: in the whole run, no request of ours was refused for want of a right: the chart's rights are
/// enough. That they are not too many is shown by the table in `operator/core`.
#[test]
fn nothing_was_forbidden_in_the_whole_run() -> Outcome {
    story(|story| {
        let mut requests = Audit::whole(story.cluster()).requests()?;
        requests.retain(|request| !request.account.ends_with(&format!(":{NEWCOMER}")));
        let operators =
            requests.iter().filter(|request| request.account.starts_with("berth-system:")).count();
        ensure!(operators > 100, "the audit log holds only {operators} requests of the operator");
        let forbidden: Vec<_> =
            (0..requests.len()).filter_map(|at| lasting_refusal(&requests[at..])).collect();
        ensure!(
            forbidden.is_empty(),
            "{} of {} were forbidden: {forbidden:#?}",
            forbidden.len(),
            requests.len()
        );

        let log = story.cluster().kubectl(&[
            "logs",
            "--namespace",
            OPERATOR_NAMESPACE,
            "--selector=app.kubernetes.io/name=berth-operator",
            "--tail=-1",
            "--ignore-errors",
        ])?;
        let complaints: Vec<&str> =
            log.lines().filter(|line| line.contains("is forbidden") || line.contains("panicked")).collect();
        ensure!(complaints.is_empty(), "{complaints:#?}");
        let events = story.cluster().kubectl(&["get", "events", "--all-namespaces", "--output=json"])?;
        let events: serde_json::Value = serde_json::from_str(&events)?;
        let about = |event: &&serde_json::Value| {
            let ours = event["source"]["component"].as_str().or(event["reportingComponent"].as_str());
            ours.is_some_and(|name| name.contains("berth"))
                && event["message"].as_str().is_some_and(|message| message.contains("is forbidden"))
        };
        let complaints: Vec<_> = events["items"].as_array().into_iter().flatten().filter(about).collect();
        ensure!(complaints.is_empty(), "{complaints:#?}");
        Ok(())
    })
}

/// The first of these requests, if it was refused and the like of it was not let in later. An API server that has just
/// started refuses what it has not read the rights for yet.
fn lasting_refusal(requests: &[Request]) -> Option<&Request> {
    let (first, later) = requests.split_first()?;
    let what = |request: &Request| {
        let Request { account, verb, namespace, resource, .. } = request.clone();
        (account, verb, namespace, resource)
    };
    let refused = matches!(first.code, 401 | 403);
    let passed = || later.iter().any(|request| request.code < 400 && what(request) == what(first));
    (refused && !passed()).then_some(first)
}

/// R-OPR-1, R-OPR-8: after the chart is gone no webhook is left to refuse a Pod, registries go on serving, and no
/// finalizer keeps an object or a namespace.
#[test]
fn uninstalling_leaves_nothing_that_hangs() -> Outcome {
    story(|story| {
        let team = story.team("uninstalled")?;
        let registry = team.registry("registry", json!({"storage": {"memory": {}}}))?;
        let key = team.signing_key("release")?;
        team.require_signatures("signed", &registry.image("**"), &[&key])?;
        let bare = team.push(&registry, "app/bare:v1", "bare, at the end")?;
        team.pull_secret()?;
        team.until("the policy to be enforced", || {
            let words = team.refused(&pod("bare", &bare.tagged))?;
            ensure!(words.contains("uninstalled/signed"), "{words}");
            Ok(())
        })?;

        // Without --wait: helm 4 would wait its whole time-out for what is gone already.
        let helm = |chart: &str| {
            team.cluster()
                .run("helm", &["uninstall", chart, "--namespace", OPERATOR_NAMESPACE, "--timeout=120s"])
        };
        helm("berth")?;
        let webhooks = team.kubectl(&["get", "validatingwebhookconfigurations", "--output=name"])?;
        ensure!(!webhooks.contains("berth"), "left: {webhooks}");
        team.until("the rights to be gone", || {
            let roles = team.kubectl(&["get", "clusterroles,clusterrolebindings", "--output=name"])?;
            let roles: Vec<&str> = roles.lines().filter(|name| name.contains("berth")).collect();
            ensure!(roles.is_empty(), "left: {roles:?}");
            Ok(())
        })?;
        let secrets =
            team.kubectl(&["get", "secrets", "--namespace", OPERATOR_NAMESPACE, "--output=name"])?;
        ensure!(!secrets.contains("berth-facts"), "left: {secrets}");

        team.until("a Pod to be let in", || Ok(team.apply(&pod("bare", &bare.tagged))?))?;
        team.wait("pod/bare", "condition=Ready")?;
        team.push(&registry, "app/late:v1", "pushed when no operator is left")?;
        team.kubectl(&["delete", "registry/registry", "imagepolicy/signed", "--timeout=30s"])?;
        team.until("the children to be gone", || {
            let left = team.kubectl(&[
                "get",
                "deployments,services,secrets",
                "--selector=berth.dev/registry",
                "--output=name",
            ])?;
            ensure!(left.trim().is_empty(), "{left}");
            Ok(())
        })?;

        helm("berth-crds")?;
        team.until("the definitions to be gone", || {
            let left = team.kubectl(&["get", "crds", "--output=name"])?;
            ensure!(!left.contains("berth.dev"), "left: {left}");
            Ok(())
        })?;
        team.kubectl(&["delete", "namespace", "uninstalled", "--timeout=60s"])?;
        Ok(())
    })
}
