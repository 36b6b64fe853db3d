//! Logs of vast.ai: it is asked to put one somewhere, and there it appears after a while.
//!
//! Where that is, the provider says, so it is somebody else's address: it is read by the guarded client, without our key.

use super::{Vast, ask::Route, broken, contract};
use crate::market::{
    CALL_TIME_MAX, MarketFault,
    wire::{Call, text},
};
use forebay_runtime::http::{AllowList, Guarded, Rules, Schemes};
use http::{Method, StatusCode};
use serde_json::json;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use url::Url;

const LOG_BYTES_MAX: usize = 4 << 20;
const LINES_MAX: u32 = 10_000;
const LOOK_EVERY: Duration = Duration::from_secs(1);
const FETCH_TIME_MAX: Duration = Duration::from_secs(10);

/// The public internet over https. Where the API itself is somewhere else, which the operator chose, so may its logs be.
pub(super) fn guarded(api: &Url) -> Guarded {
    let host = api.host_str().map(|host| host.trim_matches(['[', ']']).to_owned());
    let is_plain = api.scheme() == "http";
    let allow = AllowList::try_from(host.into_iter().filter(|_| is_plain).collect::<Vec<_>>());
    Guarded::new(Rules {
        schemes: if is_plain {
            Schemes::HttpAndHttps
        } else {
            Schemes::HttpsOnly
        },
        allow: allow.unwrap_or_default(),
        body_bytes_max: LOG_BYTES_MAX,
        deadline: FETCH_TIME_MAX,
    })
}

impl Vast {
    pub(super) async fn read_log(&self, id: &str, lines: u32) -> Result<String, MarketFault> {
        let id = contract(id)?;
        let lines = lines.clamp(1, LINES_MAX);
        let end = Instant::now() + CALL_TIME_MAX;
        let call = Call::new(Method::PUT, format!("/api/v0/instances/request_logs/{id}/"))
            .json(json!({ "tail": lines.to_string() }));
        let body = self.ask(Route::Logs, call).await?;
        let url = text(&body, "result_url").and_then(|url| Url::parse(url).ok());
        let url = url.ok_or_else(|| broken("it does not say where the log is"))?;
        while Instant::now() < end {
            let request = reqwest::Request::new(Method::GET, url.clone());
            let answer = self.guarded.send(request).await.map_err(|failure| {
                MarketFault::Broken(MarketFault::words(&format!("its log cannot be read: {failure}")))
            })?;
            match answer.status() {
                StatusCode::OK => return Ok(last_lines(&String::from_utf8_lossy(answer.body()), lines)),
                StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => sleep(LOOK_EVERY).await,
                status => {
                    return Err(MarketFault::Broken(format!(
                        "its log is answered with {}",
                        status.as_u16()
                    )));
                }
            }
        }
        let seconds = CALL_TIME_MAX.as_secs();
        Err(MarketFault::Unreachable(format!(
            "the log was not there within {seconds} s"
        )))
    }
}

fn last_lines(log: &str, lines: u32) -> String {
    let all: Vec<&str> = log.lines().collect();
    let skipped = all.len().saturating_sub(usize::try_from(lines).unwrap_or(usize::MAX));
    all[skipped..].join("\n")
}
