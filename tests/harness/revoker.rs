//! A host service that keeps what is revoked, and its API.

use crate::client::{Answer, Call, Client, post};
use crate::host::{Environment, Host};
use crate::{Result, ports};
use anyhow::ensure;
use serde_json::Value;
use std::net::SocketAddr;
use tempfile::TempDir;

/// A host with a ledger of its own and an API.
pub struct Revoker {
    /// The host itself.
    pub host: Host,
    api: SocketAddr,
    ledger: TempDir,
}

impl Revoker {
    /// One whose log is its own.
    ///
    /// # Errors
    ///
    /// If it does not come up.
    pub async fn alone() -> Result<Self> {
        Self::with(vec![("TIDEGATE_PROVIDER", "memory".to_owned())]).await
    }

    /// One that is set like this.
    ///
    /// # Errors
    ///
    /// If it does not come up.
    pub async fn with(environment: Environment) -> Result<Self> {
        Self::with_file(environment, "").await
    }

    /// The same with a configuration file of this text, unless it is empty.
    ///
    /// # Errors
    ///
    /// If it does not come up.
    pub async fn with_file(mut environment: Environment, config: &str) -> Result<Self> {
        let (ledger, api) = (tempfile::tempdir()?, ports::free()?);
        let data_dir = ledger.path().to_string_lossy().into_owned();
        environment.push(("TIDEGATE_REVOCATIONS_DATA_DIR", data_dir));
        environment.push(("TIDEGATE_REVOCATIONS_API_LISTEN", api.to_string()));
        environment.push(("TIDEGATE_REVOCATIONS_API_REQUESTS_PER_SECOND", "100000".to_owned()));
        Ok(Self { host: Host::with_file(environment, config).await?, api, ledger })
    }

    /// Where its API is.
    pub fn api(&self) -> SocketAddr {
        self.api
    }

    /// Where its ledger is.
    pub fn ledger(&self) -> &std::path::Path {
        self.ledger.path()
    }

    /// Revokes what this says, and has it acknowledged.
    ///
    /// # Errors
    ///
    /// If it is not.
    pub async fn revoke(&self, what: &Value) -> Result<Value> {
        self.acknowledged(post("/v1/revocations", what.to_string())).await
    }

    /// Lifts what this says.
    ///
    /// # Errors
    ///
    /// If that is not acknowledged.
    pub async fn lift(&self, what: &Value) -> Result<Value> {
        self.acknowledged(post("/v1/revocations/lift", what.to_string())).await
    }

    /// Sends a request to its API, whatever comes of it.
    ///
    /// # Errors
    ///
    /// If there is no answer.
    pub async fn send(&self, call: Call) -> Result<Answer> {
        let call = call.header("content-type", "application/json");
        Client::http1(self.api).await?.send(call).await
    }

    async fn acknowledged(&self, call: Call) -> Result<Value> {
        let answer = self.send(call).await?;
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        ensure!(answer.status.is_success(), "{}: {body}", answer.status);
        Ok(serde_json::from_str(&body)?)
    }
}
