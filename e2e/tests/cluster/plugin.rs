//! `kubectl berth` in somebody's hands: what it foretells comes true, a denial explains itself, an image is looked at from a
//! machine that is not in the cluster, and who lacks a right is told which.

use berth_e2e::ensure;
use berth_e2e::fixtures::{Failure, Form, Outcome, pod, story};
use berth_e2e::release;
use serde_json::{Value, json};

/// Nobody has made this decision.
const NO_DECISION: &str = "000000000000";

/// R-OPR-9: a policy is tried on the Pods that run; applied, it denies just these, in the same words; a denial names a
/// decision, whose story is told and judged again.
#[test]
fn what_a_policy_would_deny_it_denies_and_explains() -> Outcome {
    story(|story| {
        let team = story.team("asked")?;
        let registry = team.registry("registry", json!({"storage": {"memory": {}}}))?;
        let release = team.signing_key("release")?;
        let web = team.push(&registry, "app/web:v1", "web, asked about")?;
        team.sign(&release, &web.pinned, Form::Bundle)?;
        let bare = team.push(&registry, "app/bare:v1", "bare, asked about")?;
        team.pull_secret()?;
        team.apply(&secret("cosign-pub", &release.public()?))?;
        for (name, image) in [("web", &web), ("bare", &bare)] {
            team.apply(&pod(name, &image.tagged))?;
        }
        for running in ["pod/web", "pod/bare"] {
            team.wait(running, "condition=Ready")?;
        }

        let policy = team.write("policy.yaml", &sample("image-policy.yaml", "asked")?)?;
        let test = ["policy", "test", "-f", &policy];
        let table = team.berth(&test)?.expect(1, &["pod/bare", "Denied", "2 running Pods"])?;
        ensure!(!table.output.contains("pod/web"), "what holds is told: {table:?}");
        let foretold = team.berth(&[test.as_slice(), &["-o", "json"]].concat())?.expect(1, &[])?.json()?;
        let message = text(&foretold["results"][0]["message"]);

        team.apply(&std::fs::read_to_string(&policy)?)?;
        team.wait("imagepolicy/signed", "condition=Ready")?;
        let attempt = pod("attempt", &bare.tagged);
        let words = team.until("the policy to be enforced", || team.denies(&attempt))?;
        ensure!(words.contains(&message), "foretold was {message:?}, said is {words:?}");
        team.admits(&pod("attempt", &web.tagged))?;

        let words = team.refused(&attempt)?;
        let command = words.split("kubectl berth ").nth(1).and_then(|rest| rest.split(')').next());
        let command: Vec<&str> = command.unwrap_or_default().split(' ').collect();
        let &["why", id, "-n", "asked"] = command.as_slice() else {
            return Err(Failure::new(format!("no decision is named: {words}")));
        };
        let story = team.until("the decision to be kept", || {
            team.berth(&["why", id])?.expect(0, &[&message, "Pod attempt", "the same verdict, byte for byte"])
        })?;
        ensure!(team.berth(&["why", "pod/attempt"])?.output == story.output, "another story: {story:?}");
        team.berth(&["why", NO_DECISION])?.expect(2, &["no decision about 000000000000"])?;

        let images = |more: &[&str]| team.berth(&[&["images"], more].concat());
        images(&[])?.expect(1, &["pod/web", "Admitted", "pod/bare", "Denied"])?;
        images(&["-o", "wide"])?.expect(1, &[&message, "asked/signed", &web.digest])?;
        images(&["-o", "yaml"])?.expect(1, &["verdict: Denied"])?;
        let everywhere = images(&["-A", "-o", "json"])?.json()?;
        let images_of = |pod: &str| {
            let all = everywhere["images"].as_array().into_iter().flatten();
            all.filter(|it| it["namespace"] == "asked" && it["workload"] == pod).collect::<Vec<_>>()
        };
        for (workload, verdict) in [("pod/web", "Admitted"), ("pod/bare", "Denied")] {
            let found = images_of(workload);
            ensure!(found.len() == 1 && found[0]["verdict"] == verdict, "{workload}: {found:?}");
        }
        team.kubectl(&["delete", "pod/bare"])?;
        images(&[])?.expect(0, &["pod/web"])?;
        Ok(())
    })
}

/// R-OPR-9: on a machine that neither resolves nor trusts a Registry, its images are looked at through the API server; with
/// too few rights, the missing one is named.
#[test]
fn an_image_is_looked_at_from_outside_of_the_cluster() -> Outcome {
    story(|story| {
        let team = story.team("verified")?;
        let registry = team.registry("registry", json!({"storage": {"memory": {}}}))?;
        let release = team.signing_key("release")?;
        let web = team.push(&registry, "app/web:v1", "web, from outside")?;
        team.sign(&release, &web.pinned, Form::Classic)?;
        let bare = team.push(&registry, "app/bare:v1", "bare, from outside")?;
        let key = team.write("release.pub", &release.public()?)?;
        let verify = |image: &str| team.berth(&["verify", image, "--key", &key]);
        verify(&web.tagged)?.expect(0, &["Signature", "Classic"])?;
        verify(&bare.pinned)?.expect(1, &["no signature was found"])?;
        verify("gone.verified.svc.cluster.local/app:v1")?.expect(2, &["no running Pod"])?;

        let policy = team.write("policy.yaml", &sample("image-policy.yaml", "verified")?)?;
        let secret = team.write("secret.yaml", &secret("cosign-pub", &release.public()?).to_string())?;
        let test =
            |image: &str| team.berth(&["policy", "test", "-f", &policy, "-f", &secret, "--image", image]);
        test(&web.tagged)?.expect(0, &["Admitted"])?;
        test(&bare.tagged)?.expect(1, &["Denied", "no signature was found"])?;

        let rule = |resource: &str, verbs: &[&str]| json!({"apiGroups": [""], "resources": [resource], "verbs": verbs});
        let rules = [
            rule("pods", &["list"]),
            rule("pods/portforward", &["get", "create"]),
            rule("configmaps", &["get"]),
        ];
        for granted in 0..=rules.len() {
            let newcomer = team.newcomer(&json!(rules[..granted]))?.display().to_string();
            let verified = team.berth(&["verify", &web.tagged, "--key", &key, "--kubeconfig", &newcomer])?;
            match rules.get(granted) {
                Some(missing) => verified.expect(2, &[&text(&missing["resources"][0]), "verified"])?,
                None => verified.expect(0, &["Signature"])?,
            };
        }
        let newcomer = team.newcomer(&json!([]))?.display().to_string();
        let asked = |what: &[&str]| team.berth(&[what, &["--kubeconfig", &newcomer]].concat());
        asked(&["why", NO_DECISION])?.expect(2, &["cannot list resource \"events\""])?;
        asked(&["images"])?.expect(2, &["cannot list resource \"imagepolicies\""])?;
        Ok(())
    })
}

/// R-OPR-9: a shell completes the plugin's commands as it does kubectl's own.
#[test]
fn kubectl_completes_the_plugins_commands() -> Outcome {
    story(|story| {
        let complete = |words: &[&str]| story.cluster().kubectl(&[&["__complete", "berth"], words].concat());
        ensure!(complete(&["ver"])?.starts_with("verify\t"), "{}", complete(&["ver"])?);
        ensure!(
            complete(&["images", "-o", "y"])?.starts_with("yaml\t"),
            "{}",
            complete(&["images", "-o", "y"])?
        );
        Ok(())
    })
}

/// A sample as a team would apply it.
fn sample(file: &str, team: &str) -> Result<String, Failure> {
    let path = release::workspace().join("config/samples").join(file);
    Ok(std::fs::read_to_string(path)?.replace("team-a", team))
}

fn secret(name: &str, public_key: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"cosign.pub": public_key}})
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
