//! From nothing to a node that is Ready and answers names. Every wait is bounded, and one that fails shows
//! the end of the log that tells why.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::cgroup::Cgroup;
use super::state::Process;
use super::{
    Client, Cluster, ClusterError, Lifetime, NODE_ADDRESS, NODE_NAME, SERVICE_RANGE, State, client, pki,
    settings, sysctl, teardown,
};
use crate::image::{self, Recipe};
use crate::packages;
use crate::tools::Tools;
use crate::wait::wait_for;

/// The longest wait for one step; a busy machine takes about a tenth of it.
const STEP: Duration = Duration::from_mins(2);

/// Folders that the node expects.
const FOLDERS: &[&str] =
    &["bin", "certs.d", "home/admin", "kubelet", "log", "plugins", "varlog/pods", "varlog/containers"];

impl Cluster {
    /// Boots a cluster of that name with the given images loaded (those of [`crate::image::node`] are
    /// needed), and returns when its node is Ready and its name service answers.
    pub fn boot(
        name: &str,
        tools: &Tools,
        images: &[Recipe],
        lifetime: Lifetime,
    ) -> Result<Self, ClusterError> {
        packages::ensure_cluster(&[])?;
        let start = Instant::now();
        let booting = State::lock()?;
        teardown::end_stale()?;
        let state = State::named(name);
        if state.folder().exists() {
            return Err(ClusterError::AlreadyUp(name.into()));
        }
        let node = prepare(&state, tools).and_then(|cgroup| start_node(&state, &cgroup, images, lifetime));
        drop(booting);
        if node.is_err() {
            let _ = teardown::end(&state);
        }
        let node = node?;
        // From here on, a failure ends the node by dropping the value.
        let mut cluster = Self { admin: Client::new(&state, "admin")?, owned: Some(node), state };
        cluster.wait_until_usable(start)?;
        if lifetime == Lifetime::Kept {
            cluster.owned = None;
        }
        Ok(cluster)
    }

    fn wait_until_usable(&mut self, start: Instant) -> Result<(), ClusterError> {
        let step = |done: &str| eprintln!("  {:5.1} s  {done}", start.elapsed().as_secs_f32());
        self.await_kubectl(
            "the API server",
            &["get", "--raw", "/readyz"],
            &["node", "import", "containerd", "etcd", "apiserver"],
        )?;
        step("API server ready");
        self.await_kubectl(
            "the node to register",
            &["get", "node", NODE_NAME],
            &["node", "import", "containerd", "kubelet"],
        )?;
        let ready = ["wait", "--for=condition=Ready", "--timeout=1s", &format!("node/{NODE_NAME}")];
        self.await_kubectl("the node to be Ready", &ready, &["node", "kubelet", "containerd"])?;
        step("node Ready");
        let account = ["--namespace=default", "get", "serviceaccount", "default"];
        self.await_kubectl("the first ServiceAccount", &account, &["controllers"])?;
        self.apply(include_str!("coredns.yaml"))?;
        self.wait_rollout("kube-system", "deployment/coredns", STEP)?;
        // kube-proxy may lag behind the Pod.
        wait_for("names of Services to resolve", STEP, || {
            self.run("getent", &["ahostsv4", "kubernetes.default.svc.cluster.local"])
        })?;
        step("name service answers");
        Ok(())
    }

    /// Repeats a kubectl command until it succeeds, or fails with the ends of the named logs.
    fn await_kubectl(&mut self, what: &str, arguments: &[&str], logs: &[&str]) -> Result<(), ClusterError> {
        let Self { state, admin, owned } = self;
        let mut dead = None;
        let done = wait_for(what, STEP, || {
            if let Some(Ok(Some(status))) = owned.as_mut().map(Child::try_wait) {
                dead = Some(format!("the node ended with {status} while waiting for {what}"));
                return Ok(());
            }
            admin.run("kubectl", arguments).map(|_| ()).map_err(|error| error.stderr().trim().to_owned())
        });
        let cause = match (dead, done) {
            (Some(cause), _) => cause,
            (None, Err(error)) => error.to_string(),
            (None, Ok(())) => return Ok(()),
        };
        Err(ClusterError::Boot { cause, logs: logs.iter().map(|log| state.log_tail(log)).collect() })
    }
}

/// Writes everything that the node reads, and makes its control group.
fn prepare(state: &State, tools: &Tools) -> Result<Cgroup, ClusterError> {
    for folder in FOLDERS {
        let folder = state.path(folder);
        fs::create_dir_all(&folder).map_err(|source| ClusterError::io(&folder, source))?;
    }
    sysctl::save()?;
    let cgroup = Cgroup::named(&state.name());
    pki::write(state)?;
    settings::write(state, &cgroup)?;
    client::write_bundle(state)?;
    for (name, path) in tools.iter() {
        let link = state.path("bin").join(name);
        symlink(path, &link).map_err(|source| ClusterError::io(&link, source))?;
    }
    state.write("node.sh", include_str!("node.sh"))?;
    let inside = state.write("inside", include_str!("inside.sh"))?;
    fs::set_permissions(&inside, fs::Permissions::from_mode(0o755))
        .map_err(|source| ClusterError::io(&inside, source))?;
    Ok(cgroup)
}

/// Starts the node's first process in its own namespaces and control group.
fn start_node(
    state: &State,
    cgroup: &Cgroup,
    images: &[Recipe],
    lifetime: Lifetime,
) -> Result<Child, ClusterError> {
    let images = image::pack_all(images, &state.path("images"))?;
    let log_path = state.path("log/node.log");
    let log = File::create(&log_path).map_err(|source| ClusterError::io(&log_path, source))?;
    let errors = log.try_clone().map_err(|source| ClusterError::io(&log_path, source))?;
    let path = std::env::var("PATH").unwrap_or_default();
    let mut node = Command::new("bash");
    // Joins the control group first, so that no process of the node is ever outside of it.
    node.args(["-c", r#"for join in $JOIN; do echo $$ > "$join"; done; exec "$@""#, "bash"]);
    if lifetime == Lifetime::Process {
        // However this process ends, the kernel ends the node.
        node.args(["setpriv", "--pdeathsig", "KILL"]);
    }
    // A session of its own: an interrupt from the terminal is for this process to answer.
    node.args(["setsid", "unshare", "--mount", "--net", "--pid", "--ipc", "--uts"])
        .args(["--fork", "--kill-child", "--mount-proc", "--", "bash"])
        .arg(state.path("node.sh"))
        .args(images.iter().map(|image| &image.tar))
        .env(
            "JOIN",
            cgroup.create()?.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(" "),
        )
        .env("PATH", format!("{}:{path}:/usr/sbin:/sbin", state.path("bin").display()))
        .env("STATE", state.folder())
        .env("NODE_NAME", NODE_NAME)
        .env("NODE_ADDRESS", NODE_ADDRESS)
        .env("SERVICE_RANGE", SERVICE_RANGE)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors);
    let child = node.spawn().map_err(|source| ClusterError::io(&log_path, source))?;
    let pid = i32::try_from(child.id()).unwrap_or_default();
    let holder = Process::find(pid).map_err(|source| ClusterError::io(&log_path, source))?;
    state.remember(holder)?;
    let init = wait_for("the node's first process", STEP, || {
        // Before it is `unshare`, the holder's children are the shell's own.
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let child = if name.trim() == "unshare" { holder.child() } else { None };
        child.ok_or_else(|| format!("{} runs instead\n{}", name.trim(), state.log_tail("node")))
    })?;
    state.write("init", init.to_string())?;
    Ok(child)
}
