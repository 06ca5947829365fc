//! Azure Blob Storage, configured by the `AZURE_*` variables that other tools know (`AZURE_STORAGE_ACCOUNT_KEY`,
//! `AZURE_CLIENT_ID`, `AZURE_TENANT_ID`, `AZURE_FEDERATED_TOKEN_FILE` of a workload identity, `AZURE_ALLOW_HTTP`, …).
//! A version is an `ETag`, without the quotes that a listing leaves out. A multipart upload is a list of blocks with
//! names of their own: it has no identity, what is abandoned is dropped by Azure after a week.

use async_trait::async_trait;
use http::{Method, StatusCode, header::IF_MATCH};
use object_store::{
    ClientConfigKey, UpdateVersion,
    azure::{AzureConfigKey, MicrosoftAzure, MicrosoftAzureBuilder},
    path::Path,
    signer::Signer as _,
};

use super::{
    DeleteError, Etag, Provider, SIGNATURE_LIFETIME, StoreError, StoreOptions, connector::Connector, invalid,
    retry,
};

/// A container.
#[derive(Debug)]
pub(super) struct Azure {
    client: MicrosoftAzure,
    /// For what `object_store` has no call: DELETE on condition.
    http: reqwest::Client,
}

impl Azure {
    pub(super) fn open(account: &str, container: &str, options: &StoreOptions) -> Result<Self, StoreError> {
        let connector = Connector::new("MicrosoftAzure", options)?;
        let builder = MicrosoftAzureBuilder::from_env()
            .with_account(account)
            .with_container_name(container)
            .with_retry(retry())
            .with_http_connector(connector.clone());
        if builder.get_config_value(&AzureConfigKey::SasKey).is_some() {
            return Err(StoreError::Invalid(
                "a shared access signature cannot delete on condition: unset AZURE_STORAGE_SAS_TOKEN and use an \
                 account key or a workload identity"
                    .to_owned(),
            ));
        }
        let set = |key| builder.get_config_value(&key).as_deref() == Some("true");
        // An emulator has no certificate.
        let plain =
            set(AzureConfigKey::Client(ClientConfigKey::AllowHttp)) || set(AzureConfigKey::UseEmulator);
        let http = connector.client(plain).map_err(|e| invalid(&e))?;
        Ok(Self { client: builder.build().map_err(|e| invalid(&e))?, http })
    }
}

fn quoted(version: &str) -> String {
    format!("\"{version}\"")
}

#[async_trait]
impl Provider for Azure {
    type Client = MicrosoftAzure;

    fn client(&self) -> &MicrosoftAzure {
        &self.client
    }

    fn version(&self, e_tag: Option<String>, _: Option<String>) -> Option<Etag> {
        Some(e_tag?.trim_matches('"').to_owned())
    }

    fn condition(&self, version: Etag) -> UpdateVersion {
        UpdateVersion { e_tag: Some(quoted(&version)), version: None }
    }

    fn unless(&self, version: &str) -> Option<String> {
        Some(quoted(version))
    }

    async fn delete_version(&self, path: &Path, version: &str) -> Result<StatusCode, DeleteError> {
        let url = self.client.signed_url(Method::DELETE, path, SIGNATURE_LIFETIME).await?;
        Ok(self.http.delete(url).header(IF_MATCH, quoted(version)).send().await?.status())
    }
}
