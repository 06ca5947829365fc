//! Buckets of three clouds: the URL of the store, the variables that the tools of each cloud know, and the Secrets that
//! become files. Credentials reach a server only by a reference to their Secret; without one the server is who its
//! `ServiceAccount` is to the cloud.

use berth_crds::{
    SecretReference,
    registry::{Azure, Gcs, S3},
};
use k8s_openapi::api::core::v1::EnvVar;

use super::{
    RegistryError,
    validate::{World, secret},
};
use crate::{
    objects,
    pod::{Mount, secret_variable, variable},
};

const S3_KEYS: [&str; 2] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
const AZURE_KEY: &str = "AZURE_STORAGE_ACCOUNT_KEY";
/// The file that Google gives for a service account.
const GOOGLE_KEY: &str = "credentials.json";

/// A bucket whose Secrets exist.
#[derive(Clone, Debug, PartialEq)]
pub struct Bucket {
    /// As servers are told, without anything secret.
    pub url: String,
    /// Their environment.
    pub environment: Vec<EnvVar>,
    /// Hash over the content of the Secrets, so that servers restart when it changes.
    pub secrets: String,
    /// Secret with Google's key file.
    key_file: Option<String>,
    /// Secret with certificates to trust.
    ca: Option<String>,
}

impl Bucket {
    /// On S3, or what is compatible.
    pub fn s3(spec: &S3, world: &World) -> Result<Self, RegistryError> {
        let what = "the keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
        let credentials = Named(spec.credentials.as_ref(), "storage.s3.credentials", &S3_KEYS, what);
        let ca = Named(spec.ca.as_ref(), "storage.s3.ca", &["ca.crt"], "the key ca.crt");
        let region = spec.region.iter().map(|region| variable("AWS_REGION", region));
        let keys = spec.credentials.iter();
        let keys = keys.flat_map(|given| S3_KEYS.map(|name| secret_variable(name, &given.secret_name)));
        Ok(Self {
            url: url("s3", &[&spec.bucket], spec.prefix.as_deref()),
            environment: region
                .chain(endpoint("AWS_ENDPOINT_URL", "AWS_ALLOW_HTTP", spec.endpoint.as_deref()))
                .chain(keys)
                .collect(),
            secrets: content(&credentials, &ca, world)?,
            key_file: None,
            ca: ca.name(),
        })
    }

    /// On Google Cloud Storage.
    pub fn gcs(spec: &Gcs, world: &World) -> Result<Self, RegistryError> {
        let what = "the key credentials.json, as Google writes it for a service account";
        let credentials = Named(spec.credentials.as_ref(), "storage.gcs.credentials", &[GOOGLE_KEY], what);
        let ca = Named(spec.ca.as_ref(), "storage.gcs.ca", &["ca.crt"], "the key ca.crt");
        let key_file = spec.credentials.iter().map(|given| {
            let file = key_file(&given.secret_name).file(GOOGLE_KEY);
            variable("GOOGLE_SERVICE_ACCOUNT", &file.display().to_string())
        });
        Ok(Self {
            url: url("gs", &[&spec.bucket], spec.prefix.as_deref()),
            environment: endpoint("GOOGLE_BASE_URL", "GOOGLE_ALLOW_HTTP", spec.endpoint.as_deref())
                .chain(key_file)
                .collect(),
            secrets: content(&credentials, &ca, world)?,
            key_file: credentials.name(),
            ca: ca.name(),
        })
    }

    /// On Azure Blob Storage.
    pub fn azure(spec: &Azure, world: &World) -> Result<Self, RegistryError> {
        let what = "the key AZURE_STORAGE_ACCOUNT_KEY";
        let credentials = Named(spec.credentials.as_ref(), "storage.azure.credentials", &[AZURE_KEY], what);
        let ca = Named(spec.ca.as_ref(), "storage.azure.ca", &["ca.crt"], "the key ca.crt");
        let key = spec.credentials.iter().map(|given| secret_variable(AZURE_KEY, &given.secret_name));
        Ok(Self {
            url: url("az", &[&spec.account, &spec.container], spec.prefix.as_deref()),
            environment: endpoint("AZURE_STORAGE_ENDPOINT", "AZURE_ALLOW_HTTP", spec.endpoint.as_deref())
                .chain(key)
                .collect(),
            secrets: content(&credentials, &ca, world)?,
            key_file: None,
            ca: ca.name(),
        })
    }

    /// Where the certificates lie that the store is trusted by.
    pub fn ca(&self) -> Option<Mount> {
        self.ca.as_ref().map(|ca| Mount::secret("store-ca", ca, "/etc/berth/store-ca", &["ca.crt"]))
    }

    /// Where Google's key file lies.
    pub fn key_file(&self) -> Option<Mount> {
        self.key_file.as_deref().map(key_file)
    }
}

fn key_file(secret: &str) -> Mount {
    Mount::secret("store-key", secret, "/etc/berth/store-key", &[GOOGLE_KEY])
}

/// A Secret that a spec may name: the reference, its field, the keys that are needed, and these in words.
struct Named<'a>(Option<&'a SecretReference>, &'static str, &'a [&'static str], &'static str);

impl Named<'_> {
    fn name(&self) -> Option<String> {
        self.0.map(|reference| reference.secret_name.clone())
    }
}

/// A hash over what both Secrets hold.
fn content(credentials: &Named<'_>, ca: &Named<'_>, world: &World) -> Result<String, RegistryError> {
    let read = |Named(reference, field, keys, what): &Named<'_>| {
        reference.map(|reference| secret(world, reference, field, keys, what)).transpose()
    };
    Ok(objects::hash(&(read(credentials)?, read(ca)?)))
}

fn url(scheme: &str, names: &[&str], prefix: Option<&str>) -> String {
    let prefix = prefix.unwrap_or_default().trim_matches('/');
    let parts: Vec<_> = names.iter().copied().chain((!prefix.is_empty()).then_some(prefix)).collect();
    format!("{scheme}://{}", parts.join("/"))
}

/// The service, and leave to speak plainly with it if that is what its URL says.
fn endpoint(
    name: &'static str,
    plain: &'static str,
    url: Option<&str>,
) -> impl Iterator<Item = EnvVar> + use<> {
    // What is asked for is appended.
    let service = url.map(|url| variable(name, url.trim_end_matches('/')));
    let is_plain = url.is_some_and(|url| url.starts_with("http://"));
    service.into_iter().chain(is_plain.then(|| variable(plain, "true")))
}
