//! Two teams, one operator: neither gets at what is the other's.

use berth_e2e::ensure;
use berth_e2e::fixtures::{Endpoint, Failure, Outcome, Team, story};
use reqwest::StatusCode;
use serde_json::json;

use super::support::http::{Site, Who};

/// R-OPR-3, R-AUTH-2: users and ServiceAccount tokens of one team are refused by the other's Registry.
#[test]
fn two_teams_cannot_read_each_others_registry() -> Outcome {
    story(|story| {
        let (one, two) = (story.team("tenant-one")?, story.team("tenant-two")?);
        let spec = || {
            json!({
                "storage": {"memory": {}},
                "lifecycle": {"schedule": "0 3 * * *", "rules": [{"priority": 1, "tagStatus": "Any", "keepLast": 9}]},
            })
        };
        let (first, second) = (one.registry("registry", spec())?, two.registry("registry", spec())?);
        one.push(&first, "app/web:v1", "of team one")?;
        two.push(&second, "app/web:v1", "of team two")?;
        let (at_first, at_second) = (Site::of(&one, &first)?, Site::of(&two, &second)?);

        let manifest = "/v2/app/web/manifests/v1";
        let expect = |site: &Site, who: &Who, wanted: StatusCode, words: &str| -> Outcome {
            let status = site.status(manifest, who)?;
            ensure!(status == wanted, "{words}: {status} instead of {wanted}");
            Ok(())
        };
        let (yes, no) = (StatusCode::OK, StatusCode::UNAUTHORIZED);
        let user = Who::User(first.password.clone());
        expect(&at_first, &user, yes, "a user at home")?;
        expect(&at_second, &user, no, "a user at the other team's")?;
        expect(&at_first, &Who::Anonymous, no, "nobody")?;

        // The operator may read both; its token for one of them is worthless at the other.
        let operator = Who::Token(token(&one, "berth-system", "berth-operator", Some(&first))?);
        expect(&at_first, &operator, yes, "the operator, with a token for this registry")?;
        expect(&at_second, &operator, no, "the operator, with a token for another registry")?;
        let unbound = Who::Token(token(&one, "berth-system", "berth-operator", None)?);
        expect(&at_first, &unbound, no, "the operator, with a token for the API server")?;

        // Tokens for the right registry, so that it knows who asks: they still may not read.
        for account in ["default", "registry", "registry-maintenance"] {
            for (site, registry) in [(&at_second, &second), (&at_first, &first)] {
                let who = Who::Token(token(&one, "tenant-one", account, Some(registry))?);
                let words = format!("ServiceAccount {account} of tenant-one at {}", registry.host);
                expect(site, &who, StatusCode::FORBIDDEN, &words)?;
            }
            let elsewhere = Who::Token(token(&one, "tenant-one", account, Some(&first))?);
            expect(
                &at_second,
                &elsewhere,
                no,
                &format!("ServiceAccount {account} with a token for its own team's"),
            )?;
        }
        expect(&at_first, &Who::Token("not.a.token".into()), no, "nonsense")
    })
}

/// R-OPR-3: the cluster's usual roles reach Berth's objects: who may look, who may change what.
#[test]
fn the_usual_roles_reach_berths_objects() -> Outcome {
    story(|story| {
        let team = story.team("team-a")?;
        for role in ["view", "edit", "admin"] {
            team.apply(&json!({
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": {"name": format!("test-{role}")},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": role}],
            }))?;
        }
        let can = |who: &str, verb: &str, what: &str| {
            let user = format!("--as={who}");
            let (resource, part) = what.split_once('/').unwrap_or((what, ""));
            let part = format!("--subresource={part}");
            team.kubectl(&["auth", "can-i", verb, resource, &part, &user])
                .is_ok_and(|answer| answer.trim() == "yes")
        };
        team.until("the aggregated roles", || {
            ensure!(can("view", "list", "registries.berth.dev"), "view may not list registries");
            Ok(())
        })?;
        let table = [
            ("view", "create", "registries.berth.dev", false),
            ("edit", "create", "registries.berth.dev", true),
            ("edit", "create", "replicationpolicies.berth.dev", true),
            ("edit", "create", "imagepolicies.berth.dev", false),
            ("admin", "create", "imagepolicies.berth.dev", true),
            ("admin", "update", "registries.berth.dev/status", false),
        ];
        for (who, verb, what, may) in table {
            ensure!(can(who, verb, what) == may, "{who} {verb} {what} should be {may}");
        }
        Ok(())
    })
}

/// A token of a ServiceAccount, for a registry or for the API server.
fn token(
    team: &Team<'_>,
    namespace: &str,
    account: &str,
    registry: Option<&Endpoint>,
) -> Result<String, Failure> {
    let audience = registry.map(|registry| format!("--audience=https://{}", registry.host));
    let namespace = format!("--namespace={namespace}");
    let mut arguments = vec!["create", "token", account, &namespace, "--duration=10m"];
    arguments.extend(audience.as_deref());
    Ok(team.cluster().kubectl(&arguments)?.trim().to_owned())
}
