//! The operator's Pods, and what can be done to them.

use berth_e2e::chart::OPERATOR_NAMESPACE;
use berth_e2e::cluster::Cluster;
use berth_e2e::ensure;
use berth_e2e::fixtures::{Doomed, Failure, Outcome, Team, kill_pod_process};

/// Their labels.
pub(crate) const OPERATOR: &str = "app.kubernetes.io/name=berth-operator";

/// The operator's Pods.
pub(crate) struct Operators<'a>(pub(crate) Team<'a>);

impl<'a> Operators<'a> {
    pub(crate) fn of(cluster: &'a Cluster) -> Result<Self, Failure> {
        Ok(Self(Team::new(cluster, OPERATOR_NAMESPACE)?))
    }

    pub(crate) fn names(&self) -> Result<Vec<String>, Failure> {
        let pods = self.0.list("pods", OPERATOR)?;
        let alive = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        Ok(alive.map(|pod| pod["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect())
    }

    pub(crate) fn both_ready(&self) -> Outcome {
        self.0.kubectl(&["rollout", "status", "deployment/berth-operator", "--timeout=120s"])?;
        self.0.until("two operators", || {
            let names = self.names()?;
            ensure!(names.len() == 2, "{names:?}");
            Ok(())
        })
    }

    /// The Pod that holds the Lease.
    pub(crate) fn leader(&self) -> Result<String, Failure> {
        let leases = self.0.get("leases")?;
        let holders: Vec<&str> = leases["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|lease| lease["spec"]["holderIdentity"].as_str())
            .collect();
        let holder = holders.first().copied().unwrap_or_default();
        let names = self.names()?;
        let leader = names.into_iter().find(|name| holder.contains(name.as_str()));
        leader.ok_or_else(|| Failure::new(format!("no Pod is the holder {holders:?}")))
    }

    /// Replaces them one by one.
    pub(crate) fn restart(&self) -> Outcome {
        self.0.kubectl(&["rollout", "restart", "deployment/berth-operator"])?;
        Ok(())
    }

    /// Tells one to end, and waits until it is gone.
    pub(crate) fn delete(&self, name: &str) -> Outcome {
        self.0.kubectl(&["delete", "pod", name])?;
        Ok(())
    }

    /// All that runs in them.
    pub(crate) fn doomed(&self) -> Result<Doomed, Failure> {
        let mut doomed = Doomed::default();
        for name in self.names()? {
            doomed.pod(&self.0, &name)?;
        }
        Ok(doomed)
    }

    /// Ends all of them, and waits until they are gone.
    pub(crate) fn absent(&self) -> Result<Absent<'_>, Failure> {
        let absent = Absent(&self.0);
        absent.scale(0)?;
        self.0.until("no operator", || {
            ensure!(self.0.list("pods", OPERATOR)?.is_empty(), "some are left");
            Ok(())
        })?;
        Ok(absent)
    }

    /// Dies at once, without a chance to give the Lease back, and does not come back under its name.
    pub(crate) fn kill(&self, name: &str) -> Outcome {
        kill_pod_process(&self.0, name, "berth-operator")?;
        self.0.kubectl(&["delete", "pod", name, "--grace-period=0", "--force", "--wait=false"])?;
        Ok(())
    }
}

/// There is no operator until this is dropped.
pub(crate) struct Absent<'a>(&'a Team<'a>);

impl Absent<'_> {
    fn scale(&self, replicas: u8) -> Outcome {
        self.0.kubectl(&["scale", "deployment/berth-operator", &format!("--replicas={replicas}")])?;
        Ok(())
    }
}

impl Drop for Absent<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.scale(2) {
            eprintln!("{error:?}");
        }
    }
}

/// Keeps new Pods from the node.
pub(crate) struct Cordon<'a>(&'a Cluster);

impl<'a> Cordon<'a> {
    pub(crate) fn new(cluster: &'a Cluster) -> Result<Self, Failure> {
        cluster.kubectl(&["cordon", "node"])?;
        Ok(Self(cluster))
    }
}

impl Drop for Cordon<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.kubectl(&["uncordon", "node"]) {
            eprintln!("{error}");
        }
    }
}
