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
    user.write("ca.crt", "");
    insta::assert_snapshot!("no_tls", test(&["policy.yaml", "--ca=ca.crt", "--image", "HOST/app:v1"]));
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
    // One for a part of the host is for that part.
    user.write(
        "docker/config.json",
        r#"{"auths": {"HOST/app": {"username": "ci", "password": "choose-a-password"}, "HOST": {"auth": "eDp5"}}}"#,
    );
    assert!(test(&["--ca=ca.crt"]).ends_with("exit code 0\n"), "{}", test(&["--ca=ca.crt"]));
    user.write("password", "wrong");
    insta::assert_snapshot!("wrong_password", test(&given));
}

/// Credentials that a helper keeps are had from it, as Docker has them; what goes wrong with it is told.
#[tokio::test]
async fn credentials_that_a_helper_keeps() {
    let Some(user) = User::guarded() else { return };
    user.key("release");
    user.push("app", "v1", "1").await;
    let verify = || user.berth(&["verify", "HOST/app:v1", "--key=release.pub", "--ca=ca.crt"]);
    user.write("docker/config.json", r#"{"credHelpers": {"HOST": "test"}}"#);
    insta::assert_snapshot!("no_helper", verify());
    user.program(
        "docker-credential-test",
        r#"read server; [ "$1 $server" = "get $(cat expected)" ] && cat answer"#,
    );
    user.write("expected", "HOST");
    user.write("answer", r#"{"ServerURL": "HOST", "Username": "ci", "Secret": "choose-a-password"}"#);
    let signed = "no signature was found";
    assert!(verify().contains(signed), "{}", verify());
    // One for all registries.
    user.write("docker/config.json", r#"{"credsStore": "test"}"#);
    assert!(verify().contains(signed), "{}", verify());

    user.program("docker-credential-test", "echo credentials not found in native keychain; exit 1");
    insta::assert_snapshot!("helper_without_credentials", verify());
    user.program("docker-credential-test", "echo the keychain is locked; exit 1");
    insta::assert_snapshot!("helper_that_fails", verify());
    user.program("docker-credential-test", "echo '{\"Username\": \"<token>\", \"Secret\": \"x\"}'");
    insta::assert_snapshot!("helper_with_a_token", verify());
    user.program("docker-credential-test", "echo choose-a-password");
    insta::assert_snapshot!("helper_that_talks_nonsense", verify());
    user.program("docker-credential-test", "yes");
    insta::assert_snapshot!("helper_that_talks_for_ever", verify());
}

/// R-OPR-6, R-OPR-9: what the operator would not ask for a policy is not asked here, and told in its words.
#[tokio::test]
async fn a_policy_has_no_registry_asked_that_the_operator_would_not_ask() {
    let Some(user) = User::new() else { return };
    user.key("release");
    user.policy();
    let image = "registry.team-b.svc.cluster.local/app:v1";
    let wide = user.read("policy.yaml").replace(&user.image("**"), "**");
    user.write("wide.yaml", &wide);
    let test = |file: &str, image: &str, more: &[&str]| {
        user.berth(&[["policy", "test", "-f", file, "--image", image].as_slice(), more].concat())
    };
    insta::assert_snapshot!("of_another_tenant", test("wide.yaml", image, &["--plain-http"]));
    insta::assert_snapshot!("not_named_in_full", test("wide.yaml", "ghcr.io/acme/app:v1", &[]));
    // A policy of the operator's namespace may have all Registries asked.
    user.write("cluster.yaml", &wide.replace("namespace: team-a", "namespace: platform"));
    let more = ["--operator-namespace=platform", "--kubeconfig=gone"];
    insta::assert_snapshot!("no_way_to_the_cluster", test("cluster.yaml", image, &more));
}
