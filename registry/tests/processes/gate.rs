//! The second gate: what policies forbid is not served to those who may only pull (R-OPR-6). Signatures are in cosign's
//! classic form, made here; `clients/artifacts.rs` has cosign itself sign.

use aws_lc_rs::{
    encoding::AsDer as _,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Test;
use crate::support::content::{Blob, Manifest, OCI_CONFIG};
use crate::support::http::{Failure, Reply, Target, ensure};
use crate::support::process::{PATIENCE, eventually};
use crate::support::repository::Repository;
use crate::support::s3::S3;
use crate::support::server::{Options, Server, htpasswd};

const HOST: &str = "registry.team-a.svc.cluster.local";
const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// Somebody with a key.
struct Signer {
    key: EcdsaKeyPair,
}

impl Signer {
    fn new() -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("a key can be made");
        Self { key }
    }

    fn pem(&self) -> String {
        let der = self.key.public_key().as_der().expect("a key can be written");
        let text = BASE64_STANDARD.encode(der.as_ref());
        format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
    }

    /// Signs a manifest; what is returned is the signature.
    async fn sign(&self, repo: &Repository, image: &Manifest) -> Result<Manifest, Failure> {
        let digest = image.digest();
        let payload = json!({
            "critical": {
                "identity": {"docker-reference": ""},
                "image": {"docker-manifest-digest": digest},
                "type": "cosign container image signature",
            },
            "optional": null,
        });
        let payload = Blob::new(payload.to_string(), PAYLOAD);
        let signature = self.key.sign(&SystemRandom::new(), &payload.bytes).expect("a key can sign");
        let mut manifest = Manifest::image_of(Blob::config().with_type(OCI_CONFIG), vec![payload]);
        manifest.document["layers"][0]["annotations"] =
            json!({"dev.cosignproject.cosign/signature": BASE64_STANDARD.encode(signature.as_ref())});
        repo.push(&manifest, &format!("{}.sig", digest.replace(':', "-"))).await?;
        Ok(manifest)
    }

    fn policy(&self, more: &Value) -> Value {
        signed_by(&self.pem(), more)
    }
}

/// A policy that asks for a signature by a key.
fn signed_by(pem: &str, more: &Value) -> Value {
    let authorities = json!([{"name": "release", "key": {"pem": pem}}]);
    let mut policy =
        json!({"images": [format!("{HOST}/**")], "require": [{"signature": {"authorities": authorities}}]});
    policy.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
    json!({"name": "team-a/signed", "policy": policy})
}

/// A server with a gate. `ci` may push, `node` and the anonymous may pull.
struct Gated {
    server: Server,
    files: TempDir,
}

fn configuration(files: &TempDir, gate: Option<&[Value]>) -> String {
    let mut config = json!({
        "anonymous": "read", "htpasswd": files.path().join("htpasswd"), "pullOnlyUsers": ["node"],
    });
    if let Some(policies) = gate {
        config["gate"] = json!({"host": HOST, "policies": policies});
    }
    config.to_string()
}

impl Gated {
    async fn start(gate: Option<&[Value]>) -> Self {
        Self::start_on(Options::plain("memory:"), gate).await
    }

    async fn start_on(options: Options, gate: Option<&[Value]>) -> Self {
        let files = TempDir::new().expect("a directory can be made");
        let users = htpasswd("ci", "secret") + &htpasswd("node", "secret");
        std::fs::write(files.path().join("htpasswd"), users).expect("a file can be written");
        let path = files.path().join("berth.yaml");
        std::fs::write(&path, configuration(&files, gate)).expect("a file can be written");
        Self { server: options.flag("--config", path).start().await, files }
    }

    fn change(&self, gate: Option<&[Value]>) {
        let next = self.files.path().join("next");
        std::fs::write(&next, configuration(&self.files, gate)).expect("a file can be written");
        std::fs::rename(next, self.files.path().join("berth.yaml")).expect("a file can be replaced");
    }

    fn ci(&self) -> Target {
        self.server.target().login("ci", "secret")
    }

    /// A repository as `ci` and as the anonymous see it.
    fn repository(&self) -> (Repository, Repository) {
        let ci = self.ci().fresh();
        let puller = self.server.target().repository(&ci.name);
        (ci, puller)
    }
}

async fn get(repo: &Repository, reference: &str) -> Result<Reply, Failure> {
    repo.manifest(Method::GET, reference).send().await
}

/// Refused in words that hold all of `says`.
async fn is_refused(repo: &Repository, reference: &str, says: &[&str]) -> Test {
    let reply = get(repo, reference).await?;
    let body = reply.refused(&[403], &["DENIED"])?.json()?;
    let message = body["errors"][0]["message"].as_str().unwrap_or_default().to_owned();
    for part in says {
        ensure!(message.contains(part), "{message:?} does not say {part:?}");
    }
    let head = repo.manifest(Method::HEAD, reference).send().await?;
    head.status(&[403])?;
    ensure!(head.value("warning")?.starts_with("299 - \""), "a HEAD does not say why");
    Ok(())
}

async fn status(repo: &Repository, reference: &str) -> u16 {
    get(repo, reference).await.map_or(0, |reply| reply.status)
}

/// Unsigned: refused to pullers, served to who may push. Signed: served at once. No longer signed: refused at once.
#[tokio::test]
async fn what_is_not_signed_is_not_served_to_pullers() -> Test {
    let signer = Signer::new();
    let gated = Gated::start(Some(&[signer.policy(&json!({}))])).await;
    let (ci, anonymous) = gated.repository();
    let node = gated.server.target().login("node", "secret").repository(&ci.name);
    let image = Manifest::image();
    ci.push(&image, "v1").await?;
    let (name, digest) = (ci.name.clone(), image.digest());
    let pinned = format!("{HOST}/{name}@{digest}");
    let words = [
        "no signature was found",
        "release",
        &format!("cosign sign --key KEY {pinned}"),
        "ImagePolicy team-a/signed",
    ];
    for puller in [&anonymous, &node] {
        is_refused(puller, "v1", &words).await?;
        is_refused(puller, &digest, &words).await?;
        let held = puller.manifest(Method::GET, "v1").header("if-none-match", &format!("\"{digest}\""));
        held.send().await?.status(&[403])?;
        puller.post_upload("").send().await?.status(&[401, 403])?;
    }
    ci.has_manifest(&image, "v1").await?;
    ci.has_manifest(&image, &digest).await?;
    // What speaks for an image can be looked at by everybody, and so can blobs.
    anonymous.has_blob(&image.blobs[1]).await?;
    let evidence = format!("/berth/v1/evidence?repository={name}&reference={digest}");
    anonymous.target.get(&evidence).await?.status(&[200])?;

    let signature = signer.sign(&ci, &image).await?;
    anonymous.has_manifest(&image, "v1").await?;
    node.has_manifest(&image, &digest).await?;
    anonymous.has_manifest(&signature, &signature.digest()).await?;
    ci.manifest(Method::DELETE, &signature.digest()).send().await?.status(&[202])?;
    is_refused(&anonymous, "v1", &words).await?;

    let metrics = anonymous.target.get("/metrics").await?;
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    ensure!(
        metrics.contains("berth_pulls_refused_total{policy=\"team-a/signed\"} "),
        "not counted: {metrics}"
    );
    Ok(())
}

/// The same with cosign, as it signs by default: a bundle that refers to the image.
#[tokio::test]
async fn cosign_opens_the_gate() -> Test {
    let Some(cosign) = std::env::var_os("BERTH_TOOL_COSIGN") else {
        println!("skipped: BERTH_TOOL_COSIGN does not name a program");
        return Ok(());
    };
    let home = TempDir::new().expect("a directory can be made");
    let run = async |arguments: &[&str]| {
        let mut command = tokio::process::Command::new(&cosign);
        command.args(arguments).current_dir(home.path()).env_clear();
        command.env("HOME", home.path()).env("DOCKER_CONFIG", home.path()).env("COSIGN_PASSWORD", "");
        let output = tokio::time::timeout(PATIENCE, command.kill_on_drop(true).output()).await;
        let output = output.map_err(|_| Failure("cosign does not end".to_owned()))?;
        let output = output.map_err(|error| Failure(format!("cosign does not start: {error}")))?;
        ensure!(output.status.success(), "cosign failed: {}", String::from_utf8_lossy(&output.stderr));
        Ok::<_, Failure>(())
    };
    run(&["generate-key-pair"]).await?;
    let pem = std::fs::read_to_string(home.path().join("cosign.pub")).expect("cosign wrote a key");
    let gated = Gated::start(Some(&[signed_by(&pem, &json!({}))])).await;
    let (ci, anonymous) = gated.repository();
    let image = Manifest::image();
    ci.push(&image, "v1").await?;
    is_refused(&anonymous, "v1", &["no signature was found"]).await?;
    let address = &gated.server.address;
    run(&["login", address, "--username", "ci", "--password", "secret"]).await?;
    let pinned = format!("{address}/{}@{}", ci.name, image.digest());
    let offline = ["--yes", "--key=cosign.key", "--use-signing-config=false", "--tlog-upload=false"];
    run(&[["sign", "--allow-http-registry"].as_slice(), &offline, &[&pinned]].concat()).await?;
    anonymous.has_manifest(&image, "v1").await
}

/// Somebody else's signature is none, and one over another image neither.
#[tokio::test]
async fn the_wrong_signature_opens_nothing() -> Test {
    let (release, other) = (Signer::new(), Signer::new());
    let gated = Gated::start(Some(&[release.policy(&json!({}))])).await;
    let (ci, anonymous) = gated.repository();
    let (image, signed) = (Manifest::image(), Manifest::image());
    ci.push(&image, "v1").await?;
    ci.push(&signed, "v2").await?;
    let signature = release.sign(&ci, &signed).await?;
    anonymous.has_manifest(&signed, "v2").await?;
    let tag = format!("{}.sig", image.digest().replace(':', "-"));
    ci.push(&signature, &tag).await?;
    is_refused(&anonymous, "v1", &["another image"]).await?;
    other.sign(&ci, &image).await?;
    is_refused(&anonymous, "v1", &["no authority of this policy"]).await
}

/// A signature over an index covers what it lists: nodes fetch the index and then one of its images.
#[tokio::test]
async fn an_index_speaks_for_its_children() -> Test {
    let signer = Signer::new();
    let gated = Gated::start(Some(&[signer.policy(&json!({}))])).await;
    let (ci, anonymous) = gated.repository();
    let children = [Manifest::image(), Manifest::image(), Manifest::image(), Manifest::image()];
    for child in &children {
        ci.push_untagged(child).await?;
    }
    let [one, two, three, stranger] = &children;
    let (index, unsigned) = (Manifest::index_of(&[one, two]), Manifest::index_of(&[two, three]));
    ci.push(&index, "v1").await?;
    ci.push(&unsigned, "v2").await?;
    is_refused(&anonymous, "v1", &["no signature was found"]).await?;
    is_refused(&anonymous, &one.digest(), &["no signature was found"]).await?;
    let signature = signer.sign(&ci, &index).await?;
    // Also for somebody who has not fetched the index here.
    anonymous.has_manifest(one, &one.digest()).await?;
    anonymous.has_manifest(&index, "v1").await?;
    anonymous.has_manifest(two, &two.digest()).await?;
    is_refused(&anonymous, &three.digest(), &["no signature was found"]).await?;
    is_refused(&anonymous, &stranger.digest(), &["no signature was found"]).await?;
    is_refused(&anonymous, "v2", &["no signature was found"]).await?;
    ci.manifest(Method::DELETE, &signature.digest()).send().await?.status(&[202])?;
    is_refused(&anonymous, &two.digest(), &["no signature was found"]).await
}

/// Exceptions, lists and policies that are out of order, as in the webhook; what no policy speaks about is served.
#[tokio::test]
async fn policies_say_what_they_say_at_the_webhook() -> Test {
    let signer = Signer::new();
    let exception = |repository: &str, expires: &str| json!({"images": [format!("{HOST}/{repository}")], "reason": "moves in autumn", "owner": "ops", "expires": expires});
    let exceptions =
        json!([exception("old", "2999-01-01T00:00:00Z"), exception("older", "2020-01-01T00:00:00Z")]);
    let elsewhere = json!({"name": "team-a/elsewhere", "policy": {
        "images": ["docker.io/**"], "require": [{"digest": {}}],
    }});
    let broken = json!({"name": "team-a/broken", "refuses": {
        "images": [format!("{HOST}/broken/**")], "cause": "spec.require[0]: the Secret cosign does not exist",
    }});
    let policies = [signer.policy(&json!({"exceptions": exceptions})), elsewhere, broken];
    let gated = Gated::start(Some(&policies)).await;
    let (ci, anonymous) = (gated.ci(), gated.server.target());
    let image = Manifest::image();
    for name in ["old", "older", "broken/app"] {
        ci.repository(name).push(&image, "v1").await?;
    }
    anonymous.repository("old").has_manifest(&image, "v1").await?;
    let ended = ["no signature was found", "the exception of ops ended 2020-01-01T00:00:00Z"];
    is_refused(&anonymous.repository("older"), "v1", &ended).await?;
    let broken =
        ["ImagePolicy team-a/broken: cannot judge", "the Secret cosign does not exist", "team-a/signed"];
    is_refused(&anonymous.repository("broken/app"), "v1", &broken).await?;
    // A chart is no image: nobody can run it.
    let chart = Manifest::artifact("application/vnd.cncf.helm.chart.content.v1.tar+gzip");
    ci.repository("charts").push(&chart, "v1").await?;
    anonymous.repository("charts").has_manifest(&chart, "v1").await
}

/// The gate comes, changes and goes with the file; without one everything is served.
#[tokio::test]
async fn the_gate_follows_the_configuration() -> Test {
    let (first, second) = (Signer::new(), Signer::new());
    let gated = Gated::start(None).await;
    let (ci, anonymous) = gated.repository();
    let image = Manifest::image();
    ci.push(&image, "v1").await?;
    second.sign(&ci, &image).await?;
    anonymous.has_manifest(&image, "v1").await?;
    for (policies, expected) in [
        (Some([first.policy(&json!({}))]), 403),
        (Some([second.policy(&json!({}))]), 200),
        (Some([first.policy(&json!({}))]), 403),
        (None, 200),
    ] {
        gated.change(policies.as_ref().map(<[Value; 1]>::as_slice));
        eventually("the gate is as the file says", || async { status(&anonymous, "v1").await == expected })
            .await;
    }
    Ok(())
}

/// R-STO-3: what is signed, or no longer, through one replica counts on the other.
#[tokio::test]
async fn replicas_come_to_the_same_answer() -> Test {
    let Some(s3) = S3::start().await else { return Ok(()) };
    let signer = Signer::new();
    let policies = [signer.policy(&json!({}))];
    let options = s3.at(Options::plain("s3://images/gate/"));
    let here = Gated::start_on(options.clone(), Some(&policies)).await;
    let there = Gated::start_on(options, Some(&policies)).await;
    let (ci, anonymous) = here.repository();
    let elsewhere = there.server.target().repository(&ci.name);
    let image = Manifest::image();
    ci.push(&image, "v1").await?;
    let index = Manifest::index_of(&[&image]);
    ci.push(&index, "all").await?;
    is_refused(&elsewhere, "v1", &["no signature was found"]).await?;
    let signature = signer.sign(&ci, &index).await?;
    anonymous.has_manifest(&image, "v1").await?;
    eventually("the other replica sees the signature", || async { status(&elsewhere, "v1").await == 200 })
        .await;
    ci.manifest(Method::DELETE, &signature.digest()).send().await?.status(&[202])?;
    is_refused(&anonymous, "v1", &["no signature was found"]).await?;
    eventually("the other replica misses the signature", || async { status(&elsewhere, "v1").await == 403 })
        .await;
    Ok(())
}

/// A gate that makes no sense is refused at the start, with the place.
#[tokio::test]
async fn nonsense_is_refused() -> Test {
    for (gate, says) in [
        (json!({"host": "https://r.io"}), "gate.host"),
        (json!({"host": "r.io", "policies": [{"name": "a/b"}]}), "gate.policies[0] (a/b)"),
        (
            json!({"host": "r.io", "policies": [{"name": "a/b", "policy": {"images": ["alpine"]}}]}),
            "gate.policies[0] (a/b): policy.images[0]: no image matches",
        ),
    ] {
        let files = TempDir::new().expect("a directory can be made");
        let path = files.path().join("berth.yaml");
        std::fs::write(&path, json!({"gate": gate}).to_string()).expect("a file can be written");
        let mut process = Options::open("memory:").flag("--config", path).spawn();
        let ended = process.wait().await;
        let _ = process.wait_for_line(|_| None::<()>).await;
        let said = process.log();
        ensure!(!ended.success() && said.contains(says), "{says:?} is not in {said}");
    }
    Ok(())
}
