//! Clients that carry what is no image: oras (files, and what is attached to them), helm (charts), cosign
//! (signatures).

use crate::Test;
use crate::support::content::Manifest;
use crate::support::http::ensure;
use crate::user::{NAME, PASSWORD, User, client};

#[tokio::test]
async fn oras() -> Test {
    let Some(oras) = client("oras") else { return Ok(()) };
    let user = User::new().await;
    let (artifact, write) = (user.image("team/files:v1"), |name: &str, content: &str| {
        std::fs::write(user.path(name), content).expect("a file can be written");
    });
    write("report.txt", "all is well");
    write("sbom.json", "{}");
    user.run(&oras, &["login", "--username", NAME, "--password", PASSWORD, user.registry()]).await?;
    user.run(&oras, &["push", &artifact, "report.txt:text/plain"]).await?;
    let sbom = ["--artifact-type=application/spdx+json", "sbom.json:application/json"];
    user.run(&oras, &[["attach", &artifact].as_slice(), &sbom].concat()).await?;
    let referrers = user.run(&oras, &["discover", "--format=json", &artifact]).await?;
    ensure!(referrers.contains("application/spdx+json"), "the SBOM is not found: {referrers}");
    user.run(&oras, &["copy", "--recursive", &artifact, &user.image("other/files:v1")]).await?;
    user.run(&oras, &["pull", "--output=pulled", &user.image("other/files:v1")]).await?;
    let report = std::fs::read_to_string(user.path("pulled/report.txt")).unwrap_or_default();
    ensure!(report == "all is well", "the file came back as {report:?}");
    Ok(())
}

#[tokio::test]
async fn helm() -> Test {
    let Some(helm) = client("helm") else { return Ok(()) };
    let user = User::new().await;
    std::fs::create_dir_all(user.path("hello/templates")).expect("a directory can be made");
    let chart = "apiVersion: v2\nname: hello\nversion: 1.2.3\n";
    std::fs::write(user.path("hello/Chart.yaml"), chart).expect("a file can be written");
    let charts = format!("oci://{}", user.image("charts"));
    user.run(&helm, &["registry", "login", user.registry(), "--username", NAME, "--password", PASSWORD])
        .await?;
    user.run(&helm, &["package", "hello"]).await?;
    user.run(&helm, &["push", "hello-1.2.3.tgz", &charts]).await?;
    // Without a version: helm asks for the tags and takes the newest.
    user.run(&helm, &["pull", &format!("{charts}/hello"), "--destination=."]).await?;
    let shown = user.run(&helm, &["show", "chart", &format!("{charts}/hello"), "--version=1.2.3"]).await?;
    ensure!(shown.contains("version: 1.2.3"), "another chart: {shown}");
    Ok(())
}

#[tokio::test]
async fn cosign() -> Test {
    let Some(cosign) = client("cosign") else { return Ok(()) };
    let user = User::new().await;
    let (repo, image) = (user.target.repository("team/app"), Manifest::image());
    repo.push(&image, "v1").await?;
    let pinned = user.image(&format!("team/app@{}", image.digest()));
    user.run(&cosign, &["login", user.registry(), "--username", NAME, "--password", PASSWORD]).await?;
    user.run(&cosign, &["generate-key-pair"]).await?;
    // Nothing of a public service: a key of one's own, no transparency log.
    let offline = ["--yes", "--key=cosign.key", "--use-signing-config=false", "--tlog-upload=false"];
    user.run(&cosign, &[["sign"].as_slice(), &offline, &[&pinned]].concat()).await?;
    let check = ["verify", "--key=cosign.pub", "--insecure-ignore-tlog=true", "--output=text"];
    user.run(&cosign, &[check.as_slice(), &[&pinned]].concat()).await?;
    Ok(())
}
