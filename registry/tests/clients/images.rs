//! Clients that carry images: crane, regctl, skopeo, podman.

use crate::Test;
use crate::layout;
use crate::support::http::ensure;
use crate::user::{NAME, PASSWORD, User, client};

#[tokio::test]
async fn crane() -> Test {
    let Some(crane) = client("crane") else { return Ok(()) };
    let user = User::new().await;
    let (digest, image) = (layout::write(&user.path("image")).await?, user.image("team/app:v1"));
    user.run(&crane, &["auth", "login", user.registry(), "--username", NAME, "--password", PASSWORD]).await?;
    user.run(&crane, &["push", "image", &image]).await?;
    user.run(&crane, &["validate", "--remote", &image]).await?;
    user.run(&crane, &["copy", &image, &user.image("other/app:v2")]).await?;
    user.run(&crane, &["pull", "--format=oci", &user.image("other/app:v2"), "pulled"]).await?;
    layout::holds(&user.path("pulled"), &digest)?;
    ensure!(
        user.run(&crane, &["catalog", user.registry()]).await? == "other/app\nteam/app",
        "the catalog is wrong"
    );
    user.run(&crane, &["delete", &user.image("team/app:v1")]).await?;
    ensure!(user.run(&crane, &["ls", &user.image("team/app")]).await?.is_empty(), "a deleted tag is listed");
    Ok(())
}

#[tokio::test]
async fn regctl() -> Test {
    let Some(regctl) = client("regctl") else { return Ok(()) };
    let user = User::new().await;
    let (digest, image) = (layout::write(&user.path("image")).await?, user.image("team/app:v1"));
    user.run(&regctl, &["registry", "login", user.registry(), "--user", NAME, "--pass", PASSWORD]).await?;
    user.run(&regctl, &["image", "copy", "ocidir://image:v1", &image]).await?;
    ensure!(user.run(&regctl, &["image", "digest", &image]).await? == digest, "the digest is another");
    user.run(&regctl, &["image", "copy", &image, "ocidir://pulled:v1"]).await?;
    layout::holds(&user.path("pulled"), &digest)?;
    ensure!(
        user.run(&regctl, &["tag", "list", &user.image("team/app")]).await? == "v1",
        "the tags are others"
    );
    user.run(&regctl, &["tag", "delete", &image]).await?;
    ensure!(
        user.run(&regctl, &["tag", "list", &user.image("team/app")]).await?.is_empty(),
        "a deleted tag is listed"
    );
    Ok(())
}

#[tokio::test]
async fn skopeo() -> Test {
    let Some(skopeo) = client("skopeo") else { return Ok(()) };
    let user = User::new().await;
    let digest = layout::write(&user.path("image")).await?;
    let image = format!("docker://{}", user.image("team/app:v1"));
    user.run(&skopeo, &["login", "--username", NAME, "--password", PASSWORD, user.registry()]).await?;
    user.run(&skopeo, &["--insecure-policy", "copy", "oci:image:v1", &image]).await?;
    let found = user.run(&skopeo, &["inspect", "--format={{.Digest}}", &image]).await?;
    ensure!(found == digest, "pushed {digest}, found {found}");
    user.run(&skopeo, &["--insecure-policy", "copy", &image, "oci:pulled:v1"]).await?;
    layout::holds(&user.path("pulled"), &digest)?;
    user.run(&skopeo, &["delete", &image]).await?;
    Ok(())
}

/// The storage of podman needs root here: a rootless one would need user namespaces, which are not its registry's concern.
#[tokio::test]
async fn podman() -> Test {
    let Some(podman) = client("podman") else { return Ok(()) };
    if !rustix::process::geteuid().is_root() {
        println!("skipped: podman's storage is set up for root only");
        return Ok(());
    }
    let user = User::new().await;
    layout::write(&user.path("image")).await?;
    let image = user.image("team/app:v1");
    let (root, run) = (user.path("podman"), user.path("podman-run"));
    let storage = [format!("--root={}", root.display()), format!("--runroot={}", run.display())];
    let podman = async |arguments: &[&str]| {
        let mut line: Vec<&str> = storage.iter().map(String::as_str).collect();
        // Plain folders and files: nothing to mount, no journal to write to.
        line.extend(["--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--events-backend=file"]);
        line.extend(arguments);
        user.run(&podman, &line).await
    };
    podman(&["login", "--username", NAME, "--password", PASSWORD, user.registry()]).await?;
    let id = podman(&["pull", "--quiet", "oci:image:v1"]).await?;
    podman(&["push", "--quiet", &id, &image]).await?;
    podman(&["rmi", "--force", &id]).await?;
    let pulled = podman(&["pull", "--quiet", &image]).await?;
    ensure!(pulled == id, "pushed {id}, pulled {pulled}");
    Ok(())
}
