//! The demo: from an empty machine to Berth at work, every step a command that a user could type.

use std::error::Error;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::cluster::{Cluster, Lifetime};
use crate::fixtures::{PASSWORD, USER, sleeper};
use crate::interrupt::{self, Started};
use crate::narrator::Narrator;
use crate::tools::Tools;
use crate::wait::wait_for;
use crate::{packages, release, s3, stage};

/// The name of the demo's cluster.
const NAME: &str = "demo";
/// The registry of the story, as images name it.
const HOST: &str = "registry.team-a.svc.cluster.local";
/// Its image.
const APP: &str = "registry.team-a.svc.cluster.local/app:v1";

/// Plays the demo; with `keep`, the cluster stays up at the end.
pub fn run(keep: bool) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    packages::ensure_cluster(&[])?;
    let tools = Tools::ensure()?;
    let images = stage::build(&tools)?;
    println!("programs and images are built: {:.0} s", start.elapsed().as_secs_f32());
    let lifetime = if keep { Lifetime::Kept } else { Lifetime::Process };
    let guard = interrupt::remember(Started::Cluster(NAME.into()));
    let cluster = Cluster::boot(NAME, &tools, &images, lifetime)?;
    s3::start(&cluster)?;
    s3::create_bucket(&cluster, "team-a")?;
    println!("a Kubernetes node with an S3 server is up: {:.0} s", start.elapsed().as_secs_f32());

    let client = cluster.client("demo")?;
    prepare(client.home())?;
    let folder = client.home().to_owned();
    if let Err(error) = story(&cluster, Narrator::new(client.clone(), folder)) {
        cluster.diagnose("team-a");
        return Err(error);
    }
    if let Some(bytes) = cluster.memory_peak() {
        println!("\npeak memory of the whole node, page cache included: {} MiB", bytes >> 20);
    }
    drop(guard);
    if keep {
        let inside = cluster.state().path("inside");
        println!("\nThe cluster stays up. Look around from {}:", client.home().display());
        println!("  export BERTH_HOME={}", client.home().display());
        for command in ["kubectl get berth -A", "kubectl get pods -A", &format!("crane ls {HOST}/app")] {
            println!("  {} {command}", inside.display());
        }
        println!("End it with: cargo run -p berth-e2e -- cluster down --name {NAME}");
        return Ok(());
    }
    println!("\nThe cluster ends now; `cargo demo --keep` leaves it up to look around in.");
    Ok(cluster.end()?)
}

/// Puts into the user's folder what a user has at hand: this repository's charts and samples, and two images.
fn prepare(home: &Path) -> Result<(), Box<dyn Error>> {
    for name in ["charts", "config"] {
        let link = home.join(name);
        if !link.exists() {
            symlink(release::workspace().join(name), link)?;
        }
    }
    for name in ["app", "changed-app"] {
        let packed = sleeper(name)?.pack(&home.join("packed"))?;
        let _ = fs::remove_dir_all(home.join(name));
        fs::rename(packed.layout, home.join(name))?;
    }
    Ok(())
}

fn story(cluster: &Cluster, mut tell: Narrator) -> Result<(), Box<dyn Error>> {
    tell.step("The platform team installs the charts, and lets Berth work in one namespace");
    tell.run(&["kubectl", "create", "namespace", "team-a"])?;
    tell.run(&["kubectl", "label", "namespace", "team-a", "pod-security.kubernetes.io/enforce=restricted"])?;
    tell.run(&["helm", "install", "berth-crds", "charts/berth-crds"])?;
    let install =
        ["helm", "install", "berth", "charts/berth", "--namespace=berth-system", "--create-namespace"];
    tell.run(&[install.as_slice(), &["--set=namespaces={team-a}", "--wait", "--timeout=120s"]].concat())?;

    tell.step("The product team asks for a registry on its bucket: two replicas, users from a Secret");
    let access = format!("--from-literal=AWS_ACCESS_KEY_ID={}", s3::ACCESS_KEY);
    let secret = format!("--from-literal=AWS_SECRET_ACCESS_KEY={}", s3::SECRET_KEY);
    tell.run(&["kubectl", "create", "secret", "generic", "s3", "--namespace=team-a", &access, &secret])?;
    let users = format!("--from-literal=htpasswd={USER}:{}", bcrypt::hash(PASSWORD, 8)?);
    tell.run(&["kubectl", "create", "secret", "generic", "registry-users", "--namespace=team-a", &users])?;
    let applied = Instant::now();
    tell.run(&["kubectl", "apply", "--filename=config/samples/registry-s3.yaml"])?;
    let ready = ["kubectl", "wait", "--for=condition=Ready", "--namespace=team-a", "--timeout=120s"];
    tell.run(&[ready.as_slice(), &["registry/registry"]].concat())?;
    tell.run(&["kubectl", "get", "registries", "--namespace=team-a"])?;

    tell.step("Clients and the node trust Berth's own authority, which the registry publishes beside itself");
    let authority = r"--output=jsonpath={.data.ca\.crt}";
    let certificate =
        tell.run(&["kubectl", "get", "configmap", "registry-ca", "--namespace=team-a", authority])?;
    cluster.trust_registry(HOST, &certificate)?;
    tell.say(&format!("(on a node: /etc/containerd/certs.d/{HOST}/ca.crt)"));

    tell.step("Pushes and pulls, over TLS");
    tell.run(&["crane", "auth", "login", HOST, "--username", USER, "--password", PASSWORD])?;
    push(&tell, "app", APP)?;
    tell.say(&format!("first push {:.1} s after the Registry was applied", applied.elapsed().as_secs_f32()));
    let digest = tell.run(&["crane", "digest", APP])?;
    let pinned = format!("{HOST}/app@{}", digest.trim());

    tell.step("From now on only signed images of this registry may run in the namespace");
    tell.run(&["cosign", "generate-key-pair"])?;
    tell.run(&[
        "kubectl",
        "create",
        "secret",
        "generic",
        "cosign-pub",
        "--namespace=team-a",
        "--from-file=cosign.pub",
    ])?;
    tell.run(&["kubectl", "apply", "--filename=config/samples/image-policy.yaml"])?;
    tell.run(&[ready.as_slice(), &["imagepolicy/signed"]].concat())?;

    tell.step("The image is not signed: denied, with the reason and the cure");
    let server = format!("--docker-server={HOST}");
    let (user, password) = (format!("--docker-username={USER}"), format!("--docker-password={PASSWORD}"));
    let pull = ["kubectl", "create", "secret", "docker-registry", "registry-pull", "--namespace=team-a"];
    tell.run(&[pull.as_slice(), &[&server, &user, &password]].concat())?;
    tell.refused(&["kubectl", "apply", "--filename=config/samples/app.yaml"])?;

    tell.step("Signed with the team's key, it runs, pulled by the kubelet from our registry");
    let sign =
        ["cosign", "sign", "--yes", "--key=cosign.key", "--use-signing-config=false", "--tlog-upload=false"];
    tell.run(&[sign.as_slice(), &[&pinned]].concat())?;
    tell.run(&["kubectl", "apply", "--filename=config/samples/app.yaml"])?;
    tell.run(&[ready.as_slice(), &["pod/app"]].concat())?;
    tell.run(&["kubectl", "get", "pods", "--namespace=team-a"])?;

    tell.step("Somebody moves the tag to another image: denied again");
    tell.run(&["kubectl", "delete", "pod", "app", "--namespace=team-a"])?;
    push(&tell, "changed-app", APP)?;
    tell.refused(&["kubectl", "apply", "--filename=config/samples/app.yaml"])?;

    tell.step("What there is");
    tell.run(&["kubectl", "get", "berth", "--all-namespaces"])?;
    tell.run(&["crane", "ls", &format!("{HOST}/app")])?;
    tell.say(&format!("the whole story took {:.0} s", tell.elapsed()));
    Ok(())
}

/// Pushes, and again if the Service is not known to the node yet.
fn push(tell: &Narrator, layout: &str, image: &str) -> Result<(), Box<dyn Error>> {
    wait_for(&format!("a push of {image}"), Duration::from_secs(30), || {
        tell.run(&["crane", "push", layout, image]).map_err(|error| error.to_string())
    })?;
    Ok(())
}
