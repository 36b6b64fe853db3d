//! The agent of a rented machine: it reports the machine once, with the token that is good once, and stays until it is
//! told to end.

use crate::rental::REPORT_PATH;
use forebay_runtime::{Secret, Stop};
use http::StatusCode;
use reqwest::Client;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

const REPORT_MAX: Duration = Duration::from_secs(30);
const AGAIN_FIRST: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_mins(1);

/// What an agent is told by its environment.
#[derive(Debug, Clone)]
pub struct AgentParts {
    /// The gateway, such as `https://gateway.example.com`.
    pub url: String,
    pub token: Secret,
    /// Of the runtime's `trusted()`: whoever started the agent chose the address.
    pub http: Client,
}

/// What the agent says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Of the binary that the agent is.
    pub version: String,
    #[serde(default)]
    pub cpus: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum AgentFault {
    #[error("the gateway does not take this machine's token: it was used, or the machine is not wanted any more ({0})")]
    Refused(StatusCode),
}

/// Reports, and then stays. A gateway that cannot be reached is asked again for ever; one that refuses ends it.
pub async fn run(parts: AgentParts, stop: Stop) -> Result<(), AgentFault> {
    let reporting = async {
        let mut wait = AGAIN_FIRST;
        loop {
            match report(&parts).await {
                Ok(status) if status.is_success() => return Ok(()),
                Ok(status) if is_final(status) => return Err(AgentFault::Refused(status)),
                Ok(status) => warn!(http.status = status.as_u16(), "the gateway did not take the report"),
                Err(fault) => warn!(error = %fault.without_url(), "the gateway could not be reached"),
            }
            sleep(wait).await;
            wait = (wait * 2).min(AGAIN_MAX);
        }
    };
    tokio::select! {
        reported = reporting => reported?,
        () = stop.draining() => return Ok(()),
    }
    info!("this machine is reported");
    stop.draining().await;
    Ok(())
}

async fn report(parts: &AgentParts) -> Result<StatusCode, reqwest::Error> {
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let report = Report {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
    };
    let url = format!("{}{REPORT_PATH}", parts.url.trim_end_matches('/'));
    let request = parts.http.post(url).bearer_auth(parts.token.expose()).json(&report);
    match timeout(REPORT_MAX, request.send()).await {
        Ok(answer) => Ok(answer?.status()),
        Err(_) => Ok(StatusCode::GATEWAY_TIMEOUT),
    }
}

fn is_final(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::GONE
    )
}
