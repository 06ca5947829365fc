//! Which images run: the real cosign signs, the real kubelet pulls, the API server asks our webhook.

use berth_e2e::cluster::Cluster;
use berth_e2e::ensure;
use berth_e2e::fixtures::{Failure, Form, Outcome, Pushed, Team, deployment, pod, story};
use serde_json::{Value, json};

/// R-OPR-6, R-SIG-1, R-OPR-4: signed images are pulled and run; everything else is refused wherever a Pod or what
/// makes Pods names it, with words that say what to do.
#[test]
fn a_signed_image_runs_and_any_other_is_denied() -> Outcome {
    story(|story| {
        let team = story.team("signed")?;
        let registry = team.registry("registry", json!({"storage": {"memory": {}}}))?;
        let (release, stranger) = (team.signing_key("release")?, team.signing_key("stranger")?);
        let web = team.push(&registry, "app/web:v1", "web")?;
        team.sign(&release, &web.pinned, Form::Bundle)?;
        let api = team.push(&registry, "app/api:v1", "api")?;
        team.sign(&release, &api.pinned, Form::Classic)?;
        let bare = team.push(&registry, "app/bare:v1", "bare")?;
        let other = team.push(&registry, "app/other:v1", "other")?;
        team.sign(&stranger, &other.pinned, Form::Bundle)?;
        team.sign(&stranger, &other.pinned, Form::Classic)?;
        let signed = team.push(&registry, "app/moved:v1", "moved, as it was signed")?;
        team.sign(&release, &signed.pinned, Form::Bundle)?;
        let moved = team.push(&registry, "app/moved:v1", "moved, as it is now")?;
        ensure!(signed.digest != moved.digest, "the tag was not moved");

        team.pull_secret()?;
        team.require_signatures("signed", &registry.image("**"), &[&release])?;
        enforced(&team, &bare)?;

        team.apply(&pod("web", &web.tagged))?;
        team.apply(&pod("api", &api.pinned))?;
        team.apply(&pod("was-signed", &signed.pinned))?;
        denied(&team, &pod("bare", &bare.tagged), &bare, "app/bare:v1")?;
        denied(&team, &pod("bare-pinned", &bare.pinned), &bare, &bare.digest)?;
        denied(&team, &pod("other", &other.tagged), &other, "app/other:v1")?;
        denied(&team, &pod("moved", &moved.tagged), &moved, "app/moved:v1")?;

        denied(&team, &deployment("bare", &bare.tagged, 1), &bare, "app/bare:v1")?;
        denied(&team, &cron_job(&bare.tagged), &bare, "app/bare:v1")?;
        // What only the cluster itself may say of a Pod is no way past when somebody else says it (CVE-2023-34091).
        for metadata in [
            json!({"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "node", "uid": "x", "controller": true}]}),
            json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["example.com/stay"]}),
        ] {
            let mut forged = pod("forged", &bare.tagged);
            for (key, value) in metadata.as_object().into_iter().flatten() {
                forged["metadata"][key] = value.clone();
            }
            denied(&team, &forged, &bare, "app/bare:v1")?;
        }
        let init = with_init(&web.tagged, &bare.tagged);
        let words = denied(&team, &init, &bare, "app/bare:v1")?;
        ensure!(words.contains("init container"), "which container? {words}");
        team.apply(&with_init(&web.tagged, &api.tagged))?;

        for running in ["web", "api", "was-signed"] {
            team.wait(&format!("pod/{running}"), "condition=Ready")?;
        }
        let status = team.get("pod/web")?["status"]["containerStatuses"][0].clone();
        ensure!(status["imageID"].to_string().contains(&web.digest), "{status}");

        let debug = |image: &str, name: &str| {
            let arguments = ["--profile=restricted", "--container", name, "--", "/bin/busybox", "true"];
            team.kubectl(&[&["debug", "pod/web", "--image", image], arguments.as_slice()].concat())
        };
        debug(&api.tagged, "look")?;
        let words =
            debug(&bare.tagged, "peek").err().ok_or_else(|| Failure::new("debug took an unsigned image"))?;
        says(words.stderr(), &bare, "app/bare:v1")?;
        let words = team.kubectl(&["set", "image", "pod/web", &format!("main={}", bare.tagged)]);
        says(
            words.err().ok_or_else(|| Failure::new("set image took an unsigned image"))?.stderr(),
            &bare,
            "bare",
        )?;

        // Other images are none of the policy's business, and neither is a change that brings in no image.
        team.apply(&pod("elsewhere", "localhost/busybox:1"))?;
        team.kubectl(&["label", "pod/web", "seen=yes"])?;
        Ok(())
    })
}

/// R-OPR-6: a policy in the operator's namespace binds the namespaces that it selects, and no other.
#[test]
fn a_cluster_policy_binds_the_namespaces_that_it_selects() -> Outcome {
    story(|story| {
        let team = story.team("cluster-policy")?;
        let registry = team.registry("registry", json!({"storage": {"memory": {}}}))?;
        let key = team.signing_key("platform")?;
        let bare = team.push(&registry, "app/bare:v1", "bare, for all")?;
        let web = team.push(&registry, "app/web:v1", "web, for all")?;
        team.sign(&key, &web.pinned, Form::Bundle)?;
        let remove = CleanUp(team.cluster());
        team.kubectl(&["label", "--overwrite", "namespace/cluster-policy", "berth-test=selected"])?;
        remove.0.apply(
            &json!({
                "apiVersion": "berth.dev/v1alpha1",
                "kind": "ImagePolicy",
                "metadata": {"name": "platform", "namespace": "berth-system"},
                "spec": {
                    "mode": "Enforce",
                    "namespaces": {"matchLabels": {"berth-test": "selected"}},
                    "images": [registry.image("**")],
                    "require": [{"signature": {"authorities": [{"name": "platform", "key": {"pem": key.public()?}}]}}],
                },
            })
            .to_string(),
        )?;
        team.kubectl(&[
            "wait",
            "imagepolicy/platform",
            "--namespace=berth-system",
            "--for=condition=Ready",
            "--timeout=60s",
        ])?;
        let words = team.until("the policy to be enforced", || team.denies(&pod("bare", &bare.tagged)))?;
        ensure!(words.contains("berth-system/platform"), "{words}");
        team.apply(&pod("web", &web.tagged))?;
        team.kubectl(&["label", "namespace/cluster-policy", "berth-test-"])?;
        team.until("the policy to end with the label", || Ok(team.apply(&pod("bare", &bare.tagged))?))?;
        Ok(())
    })
}

/// R-OPR-6: `Warn` lets in and says so; nobody may use another team's Registry as evidence.
#[test]
fn a_policy_in_warn_mode_lets_in_and_warns() -> Outcome {
    story(|story| {
        let team = story.team("warned")?;
        let registry = team.registry("registry", json!({"storage": {"memory": {}}}))?;
        let key = team.signing_key("release")?;
        let bare = team.push(&registry, "app/bare:v1", "bare, warned")?;
        team.apply_policy(
            "signed",
            &json!({
                "mode": "Warn",
                "images": ["registry.*.svc.cluster.local/**"],
                "require": [{"signature": {"authorities": [{"name": "release", "key": {"pem": key.public()?}}]}}],
            }),
        )?;
        let create = |manifest: &Value| -> Result<String, Failure> {
            let file = tempfile::NamedTempFile::new()?;
            std::fs::write(file.path(), manifest.to_string())?;
            let mut kubectl = team.client().command("kubectl");
            kubectl.args(["--namespace=warned", "apply", "--server-side", "--dry-run=server", "--filename"]);
            let output = kubectl.arg(file.path()).output()?;
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            ensure!(output.status.success(), "{words}");
            Ok(words)
        };
        team.until("a warning", || {
            let words = create(&pod("bare", &bare.tagged))?;
            ensure!(words.contains("Warning") && words.contains("warned/signed"), "{words}");
            ensure!(words.contains("app/bare:v1") && words.contains("cosign sign"), "{words}");
            Ok(())
        })?;
        let words = create(&pod("foreign", "registry.tenant-one.svc.cluster.local/app/web:v1"))?;
        ensure!(words.contains("could not be checked"), "{words}");
        Ok(())
    })
}

/// Waits until the API server calls the webhook for the policy `signed`.
fn enforced(team: &Team<'_>, unsigned: &Pushed) -> Outcome {
    team.until("the policy to be enforced", || team.denies(&pod("probe", &unsigned.tagged))).map(|_| ())
}

/// The object is refused with words that help: image, policy, what was found and is missing, and the cure.
fn denied(team: &Team<'_>, manifest: &Value, image: &Pushed, names: &str) -> Result<String, Failure> {
    let words = team.refused(manifest)?;
    says(&words, image, names)?;
    Ok(words)
}

fn says(words: &str, image: &Pushed, names: &str) -> Outcome {
    let cure = format!("cosign sign --key KEY {}", image.pinned);
    for part in [names, "ImagePolicy signed/signed", " found", "a signature by release is needed", &cure] {
        ensure!(words.contains(part), "the denial does not say {part:?}: {words}");
    }
    Ok(())
}

fn cron_job(image: &str) -> Value {
    let mut spec = pod("bare", image)["spec"].clone();
    spec["restartPolicy"] = json!("Never");
    json!({
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "bare"},
        "spec": {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": {"spec": spec}}}},
    })
}

fn with_init(image: &str, init: &str) -> Value {
    let mut pod = pod("with-init", image);
    let mut first = pod["spec"]["containers"][0].clone();
    first["name"] = json!("first");
    first["image"] = json!(init);
    first["command"] = json!(["/bin/busybox", "true"]);
    pod["spec"]["initContainers"] = json!([first]);
    pod
}

/// Removes the cluster policy, however the story ends.
struct CleanUp<'a>(&'a Cluster);

impl Drop for CleanUp<'_> {
    fn drop(&mut self) {
        let delete = ["delete", "imagepolicy/platform", "--namespace=berth-system", "--ignore-not-found"];
        if let Err(error) = self.0.kubectl(&delete) {
            eprintln!("{error}");
        }
    }
}
