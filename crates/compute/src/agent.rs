//! The agent of a rented machine: it reports the machine once, with the token that is good once, and stays until it is
//! told to end. One that is started again, with its container, finds that its machine is known, and stays as well.

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
                Ok(status) if status.is_success() => break,
                // Its container was started again: whoever is known has nothing to report, and stays.
                Ok(StatusCode::CONFLICT) => break,
                Ok(status) if is_final(status) => return Err(AgentFault::Refused(status)),
                Ok(status) => warn!(http.status = status.as_u16(), "the gateway did not take the report"),
                Err(fault) => warn!(error = %fault.without_url(), "the gateway could not be reached"),
            }
            sleep(wait).await;
            wait = (wait * 2).min(AGAIN_MAX);
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_runtime::{Tasks, http::trusted};
    use std::{
        io::{BufRead, BufReader, Write},
        net::{Ipv4Addr, TcpListener},
        thread,
    };
    use tokio::sync::oneshot;

    /// A gateway that answers one report like this, and says so.
    fn gateway(status: u16) -> (String, oneshot::Receiver<()>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (answered, is_answered) = oneshot::channel();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let head = lines.map(|line| line.unwrap()).take_while(|line| !line.is_empty());
            assert!(head.count() > 0);
            write!(
                stream,
                "HTTP/1.1 {status} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            .unwrap();
            answered.send(()).unwrap();
        });
        (url, is_answered)
    }

    #[tokio::test]
    async fn whoever_is_known_stays_until_it_is_told_to_end_and_whoever_is_not_wanted_ends() {
        for (status, is_wanted) in [(204, true), (409, true), (401, false), (403, false), (404, false)] {
            let tasks = Tasks::new();
            let (url, is_answered) = gateway(status);
            let parts = AgentParts {
                url,
                token: Secret::new("fbi_1".to_owned()),
                http: trusted(),
            };
            let agent = run(parts, tasks.stop().clone());
            if is_wanted {
                let told = async {
                    is_answered.await.unwrap();
                    tasks.stop().drain();
                };
                let (ended, ()) = tokio::join!(agent, told);
                assert!(ended.is_ok(), "{status}: {ended:?}");
            } else {
                let ended = agent.await;
                assert!(matches!(ended, Err(AgentFault::Refused(_))), "{status}: {ended:?}");
            }
        }
    }
}
