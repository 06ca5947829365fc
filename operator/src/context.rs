//! What every controller and server is given: the client, the settings, the stores and the trust in Berth's own CA.

use std::sync::Arc;

use kube::{
    Client,
    runtime::events::{Recorder, Reporter},
};
use tokio::sync::watch;

use crate::{
    Scope,
    certs::{Bundle, serving::ServingCertificate},
    cli::Settings,
    metrics::Metrics,
    stores::{Stores, Writers},
};

/// Shared by everything in the process; cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The cluster's API.
    pub client: Client,
    /// As given on the command line.
    pub settings: Arc<Settings>,
    /// Where children and Secrets may be touched.
    pub scope: Arc<Scope>,
    /// Berth's objects in the whole cluster, as last seen by a watch.
    pub stores: Stores,
    /// Certificates of Berth's CA, the one in use and its neighbours in time; `None` until it was read once.
    pub bundle: watch::Receiver<Option<Bundle>>,
    /// What the webhook serves with on this replica; empty until its Secret was read once.
    pub certificate: Arc<ServingCertificate>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Publishes events.
    pub recorder: Recorder,
}

impl Context {
    /// The context, and the ends that `servers::run` fills the stores through.
    pub fn new(client: Client, settings: Settings) -> (Self, Writers) {
        let (bundle_sender, bundle) = watch::channel(None);
        let (stores, writers) = Stores::new(bundle_sender);
        let reporter =
            Reporter { controller: "berth-operator".to_owned(), instance: Some(settings.pod_name.clone()) };
        let context = Self {
            recorder: Recorder::new(client.clone(), reporter),
            scope: Arc::new(Scope::new(&settings.namespaces)),
            settings: Arc::new(settings),
            certificate: Arc::default(),
            metrics: Arc::new(Metrics::default()),
            client,
            stores,
            bundle,
        };
        (context, writers)
    }

    /// The bundle once it is there. Ends only when the process does.
    pub async fn wait_for_bundle(&self) -> Option<Bundle> {
        let mut bundle = self.bundle.clone();
        bundle.wait_for(Option::is_some).await.ok()?.clone()
    }
}
