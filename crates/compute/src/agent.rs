//! The agent of a rented machine: it reports the machine, with the token that is good once, and stays until it is told to
//! end. Beside the token it brings along what it has drawn for itself and keeps on the machine's disk: one that is started
//! again there, with its container, reports again. On another disk it finds that its machine is known, and stays as well.

use crate::rental::REPORT_PATH;
use forebay_runtime::{Entropy, Secret, Stop};
use http::StatusCode;
use reqwest::Client;
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, time::Duration};
use tokio::{
    fs,
    io::AsyncWriteExt,
    time::{sleep, timeout},
};
use tracing::{info, warn};

const REPORT_MAX: Duration = Duration::from_secs(30);
const AGAIN_FIRST: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_mins(1);
/// In the agent's folder.
const PROOF_FILE: &str = "machine";
const PROOF_DIGITS: usize = 64;

/// What an agent is told by its environment.
#[derive(Clone)]
pub struct AgentParts {
    /// The gateway, such as `https://gateway.example.com`.
    pub url: String,
    pub token: Secret,
    /// Of the runtime's `trusted()`: whoever started the agent chose the address.
    pub http: Client,
    /// Where it keeps what it draws; nowhere where the machine never outlives it.
    pub dir: Option<PathBuf>,
    pub entropy: Entropy,
}

/// What the agent says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Of the binary that the agent is.
    pub version: String,
    #[serde(default)]
    pub cpus: u32,
    /// Kept on the machine's disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum AgentFault {
    #[error("the gateway does not take this machine's token: it was used, or the machine is not wanted any more ({0})")]
    Refused(StatusCode),
}

/// Reports, and then stays. A gateway that cannot be reached is asked again for ever; one that refuses ends it.
pub async fn run(parts: AgentParts, stop: Stop) -> Result<(), AgentFault> {
    let proof = proof(&parts).await;
    let reporting = async {
        let mut wait = AGAIN_FIRST;
        loop {
            match report(&parts, proof.as_deref()).await {
                Ok(status) if status.is_success() => break,
                // Its container was started again, on another disk: whoever is known has nothing to report, and stays.
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

/// What was drawn here before, or is drawn now. Where nothing can be kept there is none: a machine is reported all the same.
async fn proof(parts: &AgentParts) -> Option<String> {
    let file = parts.dir.as_ref()?.join(PROOF_FILE);
    if let Ok(kept) = fs::read_to_string(&file).await {
        return Some(kept).filter(|kept| kept.len() == PROOF_DIGITS);
    }
    let drawn = hex::encode(parts.entropy.bytes::<{ PROOF_DIGITS / 2 }>());
    let kept = async {
        let mut options = fs::OpenOptions::new();
        let mut kept = options.write(true).create_new(true).mode(0o600).open(&file).await?;
        kept.write_all(drawn.as_bytes()).await?;
        // What is reported has to be there after a crash.
        kept.sync_all().await
    };
    match kept.await {
        Ok(()) => Some(drawn),
        Err(fault) => {
            warn!(error = %fault, "what this machine would be known by again cannot be kept");
            None
        }
    }
}

async fn report(parts: &AgentParts, proof: Option<&str>) -> Result<StatusCode, reqwest::Error> {
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let report = Report {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
        proof: proof.map(str::to_owned),
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
        io::{BufRead, BufReader, Read, Write},
        net::{Ipv4Addr, TcpListener},
        os::unix::fs::PermissionsExt,
        thread,
    };
    use tokio::sync::oneshot;

    /// A gateway that answers one report like this, and says what it was.
    fn gateway(status: u16) -> (String, oneshot::Receiver<Report>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (answered, is_answered) = oneshot::channel();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let lines = reader.by_ref().lines().map(|line| line.unwrap().to_ascii_lowercase());
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let length = head.iter().find_map(|line| line.strip_prefix("content-length: "));
            let mut body = vec![0; length.unwrap().parse().unwrap()];
            reader.read_exact(&mut body).unwrap();
            write!(
                stream,
                "HTTP/1.1 {status} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            .unwrap();
            answered.send(serde_json::from_slice(&body).unwrap()).unwrap();
        });
        (url, is_answered)
    }

    fn parts(url: String, dir: Option<PathBuf>) -> AgentParts {
        AgentParts {
            url,
            token: Secret::new("fbi_1".to_owned()),
            http: trusted(),
            dir,
            entropy: Entropy::system(),
        }
    }

    /// What an agent reports that is told to end once it has.
    async fn reported(status: u16, dir: Option<PathBuf>) -> Report {
        let tasks = Tasks::new();
        let (url, is_answered) = gateway(status);
        let told = async {
            let report = is_answered.await.unwrap();
            tasks.stop().drain();
            report
        };
        let (ended, report) = tokio::join!(run(parts(url, dir), tasks.stop().clone()), told);
        assert!(ended.is_ok(), "{status}: {ended:?}");
        report
    }

    #[tokio::test]
    async fn whoever_is_known_stays_until_it_is_told_to_end_and_whoever_is_not_wanted_ends() {
        for status in [204, 409] {
            reported(status, None).await;
        }
        for status in [401, 403, 404] {
            let (url, _) = gateway(status);
            let ended = run(parts(url, None), Tasks::new().stop().clone()).await;
            assert!(matches!(ended, Err(AgentFault::Refused(_))), "{status}: {ended:?}");
        }
    }

    #[tokio::test]
    async fn a_machine_is_known_again_on_its_own_disk_alone() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let on = |dir: &tempfile::TempDir| reported(204, Some(dir.path().to_owned()));
        let first = on(&one).await.proof.unwrap();
        assert_eq!(first.len(), PROOF_DIGITS);
        assert_eq!(on(&one).await.proof, Some(first.clone()), "as it was");
        assert!(on(&other).await.proof.is_some_and(|proof| proof != first));
        let mode = std::fs::metadata(one.path().join(PROOF_FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        for nowhere in [None, Some(PathBuf::from("/proc/nowhere"))] {
            assert_eq!(reported(204, nowhere).await.proof, None, "and is reported all the same");
        }
    }
}
