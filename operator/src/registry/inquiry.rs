//! Asks a Registry that is ready what only its servers know: how much it holds, and whether its store takes writes; as
//! seldom as `berth_operator_core::registry::inquiry` says. What was heard is remembered by the leader only: a new one
//! asks each Registry once.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use berth_crds::{Registry, registry::StorageStatus};
use berth_operator_core::{
    conditions::State,
    objects::Owner,
    registry::{
        endpoint,
        inquiry::{Asked, News, refusal, shown, wait},
        job,
        jobs::Task,
        status::{self, Observed, Unready},
        validate::Storage,
    },
};
use berth_registry_core::usage::Totals;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::CronJob;
use kube::Api;

use super::{build::Applied, probe, status::servers};
use crate::{
    Context,
    certs::Bundle,
    webhook::tokens::{TokenError, Tokens},
};

const PATIENCE: Duration = Duration::from_secs(10);
/// Totals take a few hundred bytes.
const MAX_ANSWER: usize = 16 * 1024;
/// What was asked longer ago is of Registries that are gone.
const FORGET: Duration = Duration::from_hours(24);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    #[error("the answer has more than {MAX_ANSWER} bytes")]
    TooLong,
    #[error("the answer is not understood: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// Asks, and remembers what it heard.
pub(super) struct Inquiry {
    tokens: Tokens,
    /// By the uid of the Registry.
    asked: Mutex<HashMap<String, Asked>>,
}

/// What is known of a Registry that is ready.
#[derive(Default)]
pub(super) struct Answer {
    /// What it holds, if it was asked just now.
    pub(super) storage: Option<StorageStatus>,
    /// Why its store refuses writes, if it does.
    pub(super) refusal: Option<Unready>,
    /// When it is asked again.
    pub(super) again: Option<Duration>,
}

impl Inquiry {
    pub(super) fn new(context: &Context) -> Self {
        let settings = &context.settings;
        let tokens = Tokens::new(context.client.clone(), &settings.namespace, &settings.service_account);
        Self { tokens, asked: Mutex::default() }
    }

    /// Asks a Registry that is ready, if it is time to.
    pub(super) async fn look(
        &self,
        context: &Context,
        object: &Registry,
        applied: &Applied,
        observed: &Observed,
    ) -> Result<Answer, kube::Error> {
        let (registry, owner) = (&applied.registry, &applied.registry.owner);
        let ready = matches!(status::state(registry.replicas, false, observed), State::Ready { .. });
        let bundle = context.bundle.borrow().clone();
        let Some(bundle) = bundle.filter(|_| ready && registry.replicas > 0) else {
            // Servers that are replaced may find another store.
            self.asked().retain(|uid, asked| *uid != owner.uid || asked.refusal.is_none());
            return Ok(Answer::default());
        };
        let before = self.asked().get(&owner.uid).cloned();
        let collects = registry.schedules.iter().any(|schedule| schedule.task == Task::Collect);
        let collected = if collects { collected(context, owner).await? } else { None };
        let news = News::new(collected, object.status.as_ref());
        let at = Timestamp::now();
        let left = wait(before.as_ref(), news, owner, at);
        if left > Duration::ZERO {
            let refusal = before.and_then(|before| before.refusal);
            return Ok(Answer { storage: None, refusal, again: Some(left) });
        }
        let pods = servers(context, owner).await?;
        let (refusals, totals) = tokio::join!(
            probe::refusals(owner, &pods, &bundle),
            self.ask(owner, registry.storage == Storage::Memory, &bundle)
        );
        let failures = match &totals {
            Ok(_) => 0,
            Err(error) => {
                let Owner { namespace, name, .. } = owner;
                tracing::debug!(namespace, name, %error, "the registry does not say how much it holds");
                self.tokens.forget(&endpoint(namespace, name));
                before.as_ref().map_or(1, |before| before.failures.saturating_add(1))
            }
        };
        let refusal = refusal(before.and_then(|before| before.refusal), refusals);
        let now = Asked { at, news, failures, refusal: refusal.clone() };
        let again = Some(wait(Some(&now), news, owner, at));
        let mut asked = self.asked();
        asked
            .retain(|_, asked| Duration::try_from(at.duration_since(asked.at)).is_ok_and(|age| age < FORGET));
        asked.insert(owner.uid.clone(), now);
        Ok(Answer { storage: totals.ok().as_ref().map(shown), refusal, again })
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<String, Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, owner: &Owner, refresh: bool, bundle: &Bundle) -> Result<Totals, AskError> {
        let url = endpoint(&owner.namespace, &owner.name);
        let token = self.tokens.get(&url).await?;
        let client = reqwest::Client::builder()
            .tls_certs_only(reqwest::Certificate::from_pem_bundle(bundle.as_pem().as_bytes())?)
            // The token goes to this host, and nowhere else.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(PATIENCE)
            .build()?;
        let question = client.get(format!("{url}/berth/v1/usage?totals=true&refresh={refresh}"));
        let mut response = question.bearer_auth(token).send().await?.error_for_status()?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ANSWER {
                return Err(AskError::TooLong);
            }
        }
        Ok(serde_json::from_slice(&body)?)
    }
}

/// When the last collection ended, as its `CronJob` tells.
async fn collected(context: &Context, owner: &Owner) -> Result<Option<Timestamp>, kube::Error> {
    let jobs: Api<CronJob> = Api::namespaced(context.client.clone(), &owner.namespace);
    let job = jobs.get_opt(&job(&owner.name, Task::Collect)).await?;
    Ok(job.and_then(|job| Some(job.status?.last_successful_time?.0)))
}
