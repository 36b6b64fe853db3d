//! An API that says nowhere how often it may be asked: what it refuses is heeded.

use super::{
    MarketFault,
    wire::{Answer, Api, Call, Limit, Lost, Pace},
};
use http::StatusCode;
use std::time::Duration;

/// How long a request waits for its turn after fewer were asked for.
const TURN_MAX: Duration = Duration::from_secs(5);
const REQUESTS_PER_SECOND: usize = 20;
const BACK_OFF: Duration = Duration::from_secs(5);

pub(super) struct Paced {
    api: Api,
    pace: Pace,
}

impl Paced {
    pub(super) fn new(api: Api) -> Self {
        let limit = Limit::many(REQUESTS_PER_SECOND, Duration::from_secs(1));
        Self {
            api,
            pace: Pace::new(limit.backing_off(BACK_OFF)),
        }
    }

    /// Asks once, when it is our turn.
    pub(super) async fn ask(&self, call: Call) -> Result<Answer, Lost> {
        self.turn().await?;
        let answer = self.api.send(call).await?;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            self.pace.refused(answer.retry_after());
        } else {
            self.pace.answered();
        }
        Ok(answer)
    }

    /// Asks once for what may have no end.
    pub(super) async fn open(&self, call: Call) -> Result<reqwest::Response, MarketFault> {
        self.turn().await?;
        Ok(self.api.open(call).await?)
    }

    async fn turn(&self) -> Result<(), Lost> {
        let unsent = |why| Lost {
            why,
            may_have_arrived: false,
        };
        self.pace.turn(TURN_MAX).await.map_err(unsent)
    }
}
