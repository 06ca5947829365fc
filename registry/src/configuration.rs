//! What the server is told while it runs: `berth.yaml` is followed, and what can apply at once applies from the next
//! request on. Between `settings`, which says what is valid, and `http`, which loads [`Live`] once a request.

use std::{path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{SHA256, digest};
use berth_registry_core::{
    config::{LifecycleRule, ServerConfig},
    digest::hex,
};

use crate::{
    auth::{
        Authenticator,
        htpasswd::Users,
        token_review::{ApiServer, TokenReviewError, TokenReviewer},
    },
    engine::EngineOptions,
    gate::Gate,
    http::App,
    redirects::Redirects,
    reload::Files,
    settings::{Overrides, Settings, SettingsError, parse},
};

/// What applies from the next request on. Replaced whole, never changed.
#[derive(Default)]
pub struct Live {
    /// Who may do what.
    pub auth: Authenticator,
    /// What those who may only pull are refused.
    pub gate: Option<Gate>,
    /// What the prune job applies.
    pub lifecycle: Arc<[LifecycleRule]>,
    /// Who fetches blobs from the store itself.
    pub redirects: Option<Redirects>,
    /// What a request may take, beside its client's time, before it is logged.
    pub slow_requests: Option<Duration>,
    /// SHA-256 of the file that is in force whole, in hex; none without a file.
    pub hash: Option<String>,
}

/// The one place where [`Live`] is.
pub type Shared = Arc<ArcSwap<Live>>;

/// The configuration of a process.
pub struct Configuration {
    overrides: Overrides,
    file: Option<File>,
    settings: Settings,
}

struct File {
    path: PathBuf,
    files: Files,
    hash: String,
    /// What the process started with.
    started: ServerConfig,
}

/// Why a changed file does not apply.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Tokens(#[from] TokenReviewError),
}

impl Configuration {
    /// Reads the file, if there is one, and checks everything.
    pub async fn open(path: Option<PathBuf>, overrides: Overrides) -> Result<Self, SettingsError> {
        let Some(path) = path else {
            let settings = Settings::new(overrides.clone(), ServerConfig::default())?;
            return Ok(Self { overrides, file: None, settings });
        };
        let (files, contents) = Files::read(vec![path.clone()]).await?;
        let content = contents.concat();
        let started: ServerConfig = parse(&path, &content)?;
        let settings = Settings::new(overrides.clone(), started.clone())?;
        let file = File { path, files, hash: fingerprint(&content), started };
        Ok(Self { overrides, file: Some(file), settings })
    }

    /// What the process starts with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The first [`Live`].
    pub async fn live(&self, users: Option<Users>) -> Result<Live, TokenReviewError> {
        live(&self.settings, users, self.file.as_ref().map(|file| file.hash.clone())).await
    }

    /// Follows the file as long as the process runs. A file that is not valid changes nothing.
    pub async fn follow(self, app: Arc<App>) {
        let Some(mut file) = self.file else { return };
        app.metrics.configured(&file.hash, true);
        loop {
            let content = file.files.changed().await.concat();
            let changed = async {
                let config: ServerConfig = parse(&file.path, &content)?;
                let restart = file.started.needs_restart(&config);
                let settings = Settings::new(self.overrides.clone(), config)?;
                let hash = if restart.is_empty() { fingerprint(&content) } else { file.hash.clone() };
                let users = app.live.load().auth.users.clone();
                let live = live(&settings, users, Some(hash)).await?;
                Ok::<_, Refused>((settings, live, restart))
            };
            match changed.await {
                Ok((settings, live, restart)) => {
                    app.readiness.configure(engine_options(&settings));
                    file.hash = live.hash.clone().unwrap_or_default();
                    app.live.store(Arc::new(live));
                    app.metrics.configured(&file.hash, restart.is_empty());
                    if restart.is_empty() {
                        tracing::info!(file = %file.path.display(), hash = file.hash, "configuration applied");
                    } else {
                        tracing::warn!(
                            file = %file.path.display(),
                            keys = restart.join(", "),
                            "these keys of the changed configuration apply only after a restart, the others at once"
                        );
                    }
                }
                Err(error) => {
                    app.metrics.configuration_refused();
                    tracing::error!(%error, "the changed configuration is refused, the old one stays in force");
                }
            }
        }
    }
}

fn fingerprint(content: &[u8]) -> String {
    hex(digest(&SHA256, content).as_ref())
}

async fn live(
    settings: &Settings,
    users: Option<Users>,
    hash: Option<String>,
) -> Result<Live, TokenReviewError> {
    let tokens = match &settings.service_accounts {
        Some(accounts) => Some(TokenReviewer::new(ApiServer::in_cluster()?, accounts.clone()).await?),
        None => None,
    };
    Ok(Live {
        auth: Authenticator {
            anonymous: settings.anonymous,
            users,
            pull_only: settings.pull_only_users.iter().cloned().collect(),
            tokens,
        },
        gate: settings.gate.clone(),
        lifecycle: settings.lifecycle.as_slice().into(),
        redirects: settings.redirects.clone(),
        slow_requests: settings.slow_requests,
        hash,
    })
}

/// What of the settings the engine is told.
pub fn engine_options(settings: &Settings) -> EngineOptions {
    EngineOptions {
        undelete_window: settings.undelete_window,
        upload_lease: settings.upload_lease,
        sparse_manifests: settings.sparse_manifests,
        immutable_tags: settings.immutable_tags.clone(),
        upload_memory: settings.upload_memory,
        max_uploads: settings.max_uploads,
        ..EngineOptions::default()
    }
}
