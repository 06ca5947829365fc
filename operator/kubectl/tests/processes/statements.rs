//! `verify`: who signed what, in each of cosign's formats.

use crate::user::User;

/// R-OPR-9: what is there is shown, what does not count too, with the cause.
#[tokio::test]
async fn signatures_and_attestations_are_listed() {
    let Some(user) = User::new() else { return };
    user.key("release");
    user.key("other");
    let digest = user.push("app", "v1", "1").await;
    user.push("app", "bare", "2").await;
    user.sign("release", "app", &digest, &["--new-bundle-format=false"]);
    user.sign("other", "app", &digest, &[]);
    user.write("vuln.json", r#"{"scanner": {"result": {}}}"#);
    user.attest("release", "app", &digest, "https://example.com/scan", "vuln.json");
    let verify = |more: &[&str]| user.berth(&[["verify", "--plain-http"].as_slice(), more].concat());
    insta::assert_snapshot!("signed", stable(&verify(&["HOST/app:v1", "--key", "release.pub"])));
    insta::assert_snapshot!(
        "by_two",
        stable(&verify(&["HOST/app:v1", "--key=release.pub", "--key", &user.read("other.pub")]))
    );
    insta::assert_snapshot!("nothing", verify(&["HOST/app:bare", "--key", "release.pub"]));
    insta::assert_snapshot!("no_such_image", verify(&["HOST/app:gone", "--key", "release.pub"]));
    insta::assert_snapshot!("no_key", verify(&["HOST/app:v1", "--key", "release.key"]));
    let json = verify(&["HOST/app:v1", "--key", "release.pub", "-o", "json"]);
    let (json, code) = json.rsplit_once("exit code").unwrap();
    let report: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!((report["outcome"].as_str(), code.trim()), (Some("Admitted"), "0"));
    let kinds: Vec<_> =
        report["statements"].as_array().unwrap().iter().map(|it| it["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "Signature").count(), 1, "{report}");
}

/// Times come from cosign's clock, and the order of statements from digests that hold them.
fn stable(text: &str) -> String {
    let time = |word: &str| word.parse::<jiff::Timestamp>().is_ok();
    let words = |line: &str| {
        let words = line.split("   ").map(|cell| if time(cell.trim()) { "TIME" } else { cell.trim() });
        words.filter(|cell| !cell.is_empty()).collect::<Vec<_>>().join("  ")
    };
    let mut lines: Vec<_> = text.lines().map(words).collect();
    lines[1..].sort();
    lines.join("\n")
}
