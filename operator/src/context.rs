//! What every controller and server is given: the client, the settings, the stores, the trust in Berth's own CA, and what
//! the process knows about policies and images, which the webhook and the leader share.

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
    image_policy::Keys,
    kept::{Kept, KeptMetrics},
    metrics::Metrics,
    running::Assessments,
    stores::{Stores, Writers},
    webhook::{
        DEADLINE, MEMORY,
        directory::{Directory, Registries},
        looks::Looks,
        metrics::Looked,
        outside::Outside,
        policies::Policies,
        tokens::Tokens,
    },
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
    /// What policies take from Secrets.
    pub keys: Arc<Keys>,
    /// All `ImagePolicies`, ready to judge.
    pub policies: Arc<Policies>,
    /// The registries that evidence may come from.
    pub directory: Arc<dyn Directory>,
    /// What they showed.
    pub looks: Arc<Looks>,
    /// Keeps it across restarts.
    pub kept: Arc<Kept>,
    /// What policies say about what runs, as far as this replica leads and has looked.
    pub assessments: watch::Sender<Assessments>,
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
        let scope = Arc::new(Scope::new(&settings.namespaces));
        let keys = Arc::new(Keys::new(client.clone(), scope.clone()));
        let directory: Arc<dyn Directory> = Arc::new(Registries::new(
            stores.clone(),
            bundle.clone(),
            Tokens::new(client.clone(), &settings.namespace, &settings.service_account),
            &settings.namespace,
            Outside::new(client.clone(), scope.clone()),
        ));
        let (looked, kept, metrics) = (Looked::default(), KeptMetrics::default(), Metrics::default());
        metrics.register(|registry| {
            looked.register(registry);
            kept.register(registry);
        });
        let looks = Arc::new(Looks::new(directory.clone(), DEADLINE, MEMORY, looked));
        let context = Self {
            recorder: Recorder::new(client.clone(), reporter),
            policies: Arc::new(Policies::new(stores.image_policies.clone(), keys.clone())),
            kept: Arc::new(Kept::new(client.clone(), &settings.namespace, looks.clone(), kept)),
            settings: Arc::new(settings),
            certificate: Arc::default(),
            assessments: watch::Sender::default(),
            metrics: Arc::new(metrics),
            scope,
            keys,
            directory,
            looks,
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
