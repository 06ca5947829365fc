//! A steady load of reviews as users cause them: Pods that are created in a dry run, through the real API server. Some
//! name a signed image and must be let in, some an unsigned one and must be refused by the policy; everything else is a
//! failed review.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use berth_e2e::cluster::Cluster;
use berth_e2e::ensure;
use berth_e2e::fixtures::{Failure, Outcome, Team, pod};
use reqwest::{Certificate, Client, Identity, StatusCode};
use serde_json::Value;

/// Clients that create signed Pods, each one after the other. One more creates unsigned ones.
const CLIENTS: usize = 3;

/// The pause after each request: a load, not a siege.
const PACE: Duration = Duration::from_millis(10);

/// Reviews that must succeed after a disturbance.
const MORE: usize = 100;

/// A load that runs.
pub(crate) struct Reviews {
    tally: Arc<Tally>,
    thread: JoinHandle<Outcome>,
}

#[derive(Default)]
struct Tally {
    stop: AtomicBool,
    admitted: AtomicUsize,
    refused: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

/// What is asked for, and what must come of it.
#[derive(Clone)]
enum Wish {
    Admitted(Value),
    Refused(Value),
}

impl Reviews {
    /// Starts the load in a team's namespace, where a policy of the team tells the two images apart already.
    pub(crate) fn start(team: &Team<'_>, signed: &str, unsigned: &str) -> Result<Self, Failure> {
        let api = Api::of(team.cluster(), team.namespace())?;
        let network = team.cluster().network()?;
        let signed = Wish::Admitted(pod("load-signed", signed));
        let unsigned = Wish::Refused(pod("load-unsigned", unsigned));
        let tally = Arc::<Tally>::default();
        let shared = Arc::clone(&tally);
        let thread = std::thread::spawn(move || {
            network.run(async || {
                let wishes = std::iter::repeat_n(&signed, CLIENTS).chain([&unsigned]);
                futures::future::join_all(wishes.map(|wish| shared.ask(&api, wish))).await;
            })?;
            Ok(())
        });
        Ok(Self { tally, thread })
    }

    /// Waits until it has gone on for a while.
    pub(crate) fn go_on(&self, team: &Team<'_>) -> Outcome {
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        let (admitted, refused) = (count(&self.tally.admitted), count(&self.tally.refused));
        team.until("reviews to go on", || {
            let (now, also) = (count(&self.tally.admitted), count(&self.tally.refused));
            ensure!(now > admitted + MORE && also > refused, "{admitted}+{refused}, now {now}+{also}");
            Ok(())
        })
    }

    /// Ends the load: every review must have been answered, and rightly.
    pub(crate) fn end(self) -> Outcome {
        self.tally.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| Failure::new("the load panicked"))??;
        let failures = self.tally.failures.lock().unwrap_or_else(PoisonError::into_inner);
        println!(
            "reviews: {} admitted, {} refused, {} failed",
            self.tally.admitted.load(Ordering::Relaxed),
            self.tally.refused.load(Ordering::Relaxed),
            failures.len()
        );
        ensure!(failures.is_empty(), "{failures:#?}");
        Ok(())
    }
}

impl Tally {
    async fn ask(&self, api: &Api, wish: &Wish) {
        while !self.stop.load(Ordering::Relaxed) {
            match api.dry_run(wish).await {
                Ok(()) => {
                    let counter = match wish {
                        Wish::Admitted(_) => &self.admitted,
                        Wish::Refused(_) => &self.refused,
                    };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
                Err(failure) => {
                    let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
                    failures.push(format!("{failure:?}"));
                }
            }
            tokio::time::sleep(PACE).await;
        }
    }
}

/// The API server, as its administrator asks it.
struct Api {
    client: Client,
    url: String,
    namespace: &'static str,
}

impl Api {
    fn of(cluster: &Cluster, namespace: &'static str) -> Result<Self, Failure> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let pki = |file: &str| std::fs::read(cluster.state().path("pki").join(file));
        let identity = [pki("admin.crt")?, pki("admin.key")?].concat();
        let client = Client::builder()
            .tls_certs_only([Certificate::from_pem(&pki("ca.crt")?)?])
            .identity(Identity::from_pem(&identity)?)
            .build()?;
        let config: Value = serde_json::from_slice(&std::fs::read(cluster.kubeconfig())?)?;
        let server = config["clusters"][0]["cluster"]["server"].as_str().unwrap_or_default();
        let url = format!("{server}/api/v1/namespaces/{namespace}/pods?dryRun=All");
        Ok(Self { client, url, namespace })
    }

    async fn dry_run(&self, wish: &Wish) -> Outcome {
        let (pod, wanted) = match wish {
            Wish::Admitted(pod) => (pod, StatusCode::CREATED),
            Wish::Refused(pod) => (pod, StatusCode::FORBIDDEN),
        };
        let request = self.client.post(&self.url).header("Content-Type", "application/json");
        let response = request.body(pod.to_string()).send().await?;
        let status = response.status();
        let body = response.text().await?;
        ensure!(status == wanted, "{status} instead of {wanted}: {body}");
        let policy = format!("ImagePolicy {}/", self.namespace);
        ensure!(status == StatusCode::CREATED || body.contains(&policy), "refused by somebody else: {body}");
        Ok(())
    }
}
