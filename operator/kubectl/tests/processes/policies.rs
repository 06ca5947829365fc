//! `policy test` without a cluster: verdicts in the webhook's words, exit codes, and what is wrong with a file.

use crate::user::User;

/// Wants a signature by the key in the Secret `release` for every image of the registry.
const SIGNED: &str = "
apiVersion: berth.dev/v1alpha1
kind: ImagePolicy
metadata: {name: signed, namespace: team-a}
spec:
  mode: Enforce
  images: ['HOST/**']
  require:
  - signature: {authorities: [{name: release, key: {secretName: release}}]}
";

impl User {
    /// The policy above in `policy.yaml`, with its Secret.
    fn policy(&self) {
        let pem = self.read("release.pub").replace('\n', "\n    ");
        let secret =
            format!("kind: Secret\nmetadata: {{name: release}}\nstringData:\n  cosign.pub: |\n    {pem}\n");
        self.write("policy.yaml", &format!("{SIGNED}---\n{secret}"));
    }
}

/// R-OPR-9: who tests a policy sees what the webhook would say, and scripts see it in the exit code.
#[tokio::test]
async fn verdicts_are_those_of_the_webhook() {
    let Some(user) = User::new() else { return };
    user.key("release");
    user.key("other");
    user.policy();
    let (bundle, classic) = (user.push("app", "bundle", "1").await, user.push("app", "classic", "2").await);
    user.sign("release", "app", &bundle, &[]);
    user.sign("release", "app", &classic, &["--new-bundle-format=false"]);
    user.push("app", "unsigned", "3").await;
    let foreign = user.push("app", "foreign", "4").await;
    user.sign("other", "app", &foreign, &[]);
    insta::assert_snapshot!(
        "admitted",
        user.berth(&[
            "policy",
            "test",
            "--plain-http",
            "-f",
            "policy.yaml",
            "--image",
            "HOST/app:bundle",
            "--image",
            "HOST/app:classic",
        ])
    );
    insta::assert_snapshot!(
        "denied",
        user.berth(&[
            "policy",
            "test",
            "--plain-http",
            "-f",
            "policy.yaml",
            "--image=HOST/app:bundle",
            "--image=HOST/app:unsigned",
            "--image=HOST/app:foreign",
            "--image=HOST/app:gone",
        ])
    );
    insta::assert_snapshot!(
        "denied_wide",
        user.berth(&[
            "policy",
            "test",
            "--plain-http",
            "-o",
            "wide",
            "-f",
            "policy.yaml",
            "--image=HOST/app:unsigned",
        ])
    );
    insta::assert_snapshot!(
        "denied_json",
        user.berth(&[
            "policy",
            "test",
            "--plain-http",
            "-f",
            "policy.yaml",
            "--image=HOST/app:unsigned",
            "-o",
            "json",
        ])
    );
    insta::assert_snapshot!(
        "denied_yaml",
        user.berth(&[
            "policy",
            "test",
            "--plain-http",
            "-f",
            "policy.yaml",
            "--image=HOST/app:unsigned",
            "-oyaml",
        ])
    );
}

/// All policies must hold; one that does not speak about an image lets it run, and says so.
#[tokio::test]
async fn several_policies_must_all_hold() {
    let Some(user) = User::new() else { return };
    user.key("release");
    user.policy();
    let digest = user.push("app", "v1", "1").await;
    user.sign("release", "app", &digest, &[]);
    let other =
        SIGNED.replace("name: signed", "name: both").replace("secretName: release", "secretName: other");
    user.key("other");
    let pem = user.read("other.pub").replace('\n', "\\n");
    let secret = format!("kind: Secret\nmetadata: {{name: other}}\nstringData: {{cosign.pub: \"{pem}\"}}\n");
    let elsewhere = SIGNED.replace("name: signed", "name: elsewhere").replace("HOST", "elsewhere.test");
    let warning = other.replace("name: both", "name: advice").replace("Enforce", "Warn");
    let warning = format!("{warning}---\n{secret}");
    user.write("warning.yaml", &warning);
    insta::assert_snapshot!(
        "a_warning_denies_nothing",
        user.berth(&[
            "policy",
            "test",
            "--plain-http",
            "-f",
            "policy.yaml",
            "-f",
            "warning.yaml",
            "--image",
            "HOST/app:v1",
        ])
    );
    let input = format!("{other}---\n{elsewhere}---\n{secret}");
    insta::assert_snapshot!(
        "one_of_three_denies",
        user.berth_reading(
            &input,
            &["policy", "test", "--plain-http", "-f", "policy.yaml", "-f", "-", "--image", "HOST/app:v1",]
        )
    );
    insta::assert_snapshot!(
        "nobody_speaks_about_it",
        user.berth(
            &["policy", "test", "--plain-http", "-f", "policy.yaml", "--image", "127.0.0.1:9/app:v1",]
        )
    );
}

/// What could not be checked is neither yes nor no.
#[tokio::test]
async fn what_could_not_be_checked_has_a_code_of_its_own() {
    let Some(user) = User::new() else { return };
    user.key("release");
    user.policy();
    user.push("app", "v1", "1").await;
    let test = |more: &[&str]| user.berth(&[["policy", "test", "-f"].as_slice(), more].concat());
    // TLS where the registry has none.
    insta::assert_snapshot!("no_tls", test(&["policy.yaml", "--image", "HOST/app:v1"]));
    user.write("typo.yaml", &SIGNED.replace("authorities", "authority"));
    insta::assert_snapshot!("unknown_field", test(&["typo.yaml", "--image", "HOST/app:v1"]));
    user.write("lonely.yaml", SIGNED);
    insta::assert_snapshot!("no_secret", test(&["lonely.yaml", "--plain-http", "--image", "HOST/app:v1"]));
    user.write("broken.yaml", &SIGNED.replace("HOST/**", "app:v1"));
    insta::assert_snapshot!("no_pattern", test(&["broken.yaml", "--image", "HOST/app:v1"]));
    insta::assert_snapshot!("no_file", test(&["gone.yaml", "--image", "HOST/app:v1"]));
    insta::assert_snapshot!("no_image", test(&["policy.yaml", "--image", "HOST/App:v1"]));
}

/// Credentials come from the command line or from Docker's file, for the exact host.
#[tokio::test]
async fn registries_with_users_and_an_authority_of_their_own() {
    let Some(user) = User::guarded() else { return };
    user.key("release");
    user.policy();
    let digest = user.push("app", "v1", "1").await;
    let test = |more: &[&str]| {
        let common = ["policy", "test", "-f", "policy.yaml", "--image", "HOST/app:v1"];
        user.berth(&[common.as_slice(), more].concat())
    };
    let given = ["--ca=ca.crt", "--user=ci", "--password-file=password"];
    insta::assert_snapshot!("no_credentials", test(&["--ca=ca.crt"]));
    user.login();
    user.sign("release", "app", &digest, &[]);
    assert!(test(&["--ca=ca.crt"]).ends_with("exit code 0\n"), "{}", test(&["--ca=ca.crt"]));
    user.write(
        "docker/config.json",
        r#"{"auths": {"HOST.evil": {"username": "ci", "password": "choose-a-password"}}}"#,
    );
    assert!(test(&["--ca=ca.crt"]).contains("Unchecked"), "{}", test(&["--ca=ca.crt"]));
    assert!(test(&given).ends_with("exit code 0\n"), "{}", test(&given));
    user.write("password", "wrong");
    insta::assert_snapshot!("wrong_password", test(&given));
}
