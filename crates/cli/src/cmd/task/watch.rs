//! `forebay task watch` without an id: the newest tasks, and everything that is not over, as it changes.
//!
//! What comes in is on the newest page. What is older and not over is looked for by its status, and what is not there any
//! more has ended. Each look costs requests of the caller's own limit, so that many of them take their time.

use super::{PAGE, patiently, table};
use crate::{printer::Printer, report};
use forebay_api::{Client, TaskInfo, TaskQuery};
use forebay_domain::{ErrorKind, Failure};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::sleep;

/// What is not over, by its status. In the order in which a task goes through them, so that the last word counts.
const UNFINISHED: [&str; 3] = ["scheduled", "pending", "running"];
/// Tasks that are followed at one time, at most: the newest of them.
const FOLLOWED_MAX: usize = 10_000;
/// Tasks whose end is looked up in one round; the others wait for the next.
const ENDS_MAX: usize = 20;
/// Every so many rounds all that is not over is looked for, whether or not some of it is known.
const ROUNDS: u32 = 10;
/// The wait after a round, for each of its requests: the limit of a key is 100 a minute where nobody has changed it.
const PACE: Duration = Duration::from_millis(700);

/// Where a task stands, as far as a change of it is news.
type Stand = (String, u32);

pub(super) async fn all(client: &Client, printer: &mut Printer) -> Result<(), Failure> {
    let mut watch = Watch {
        client,
        requests: 0,
        known: Known::default(),
        is_cut: false,
    };
    for round in 0_u32.. {
        watch.requests = 0;
        let seen = watch.look(round % ROUNDS == 0).await?;
        printer.follow(&watch.known.news(seen), table)?;
        if printer.is_closed() {
            break;
        }
        sleep(PACE * watch.requests).await;
    }
    Ok(())
}

/// Tasks by their ids, which is by their age.
type Seen = BTreeMap<String, TaskInfo>;

struct Watch<'a> {
    client: &'a Client,
    /// Of this round.
    requests: u32,
    known: Known,
    /// There are more than are followed, and that was said.
    is_cut: bool,
}

impl Watch<'_> {
    async fn look(&mut self, is_thorough: bool) -> Result<Seen, Failure> {
        let mut seen = self.newest().await?;
        if is_thorough || self.known.missing(&seen).next().is_some() {
            for status in UNFINISHED {
                self.unfinished(status, &mut seen).await?;
            }
            let missing: Vec<String> = self.known.missing(&seen).take(ENDS_MAX).cloned().collect();
            for id in missing {
                self.requests += 1;
                match patiently(async || self.client.await_task(&id, Duration::ZERO).await).await {
                    Ok(task) => drop(seen.insert(id, task)),
                    // It is forgotten already.
                    Err(failure) if failure.kind() == ErrorKind::NotFound => self.known.forget(&id),
                    Err(failure) => return Err(failure),
                }
            }
        }
        Ok(seen)
    }

    /// The newest page, and those behind it as far as there is something that nobody has seen.
    async fn newest(&mut self) -> Result<Seen, Failure> {
        let mut seen = Seen::new();
        let mut query = TaskQuery {
            limit: Some(PAGE),
            ..TaskQuery::default()
        };
        loop {
            self.requests += 1;
            let page = patiently(async || self.client.tasks(&query).await).await?;
            let is_known = page.tasks.iter().any(|task| self.known.reaches(&task.id));
            seen.extend(page.tasks.into_iter().map(|task| (task.id.clone(), task)));
            query.cursor = page.next_cursor;
            if is_known || self.known.is_empty() || query.cursor.is_none() || seen.len() >= FOLLOWED_MAX {
                return Ok(seen);
            }
        }
    }

    async fn unfinished(&mut self, status: &str, seen: &mut Seen) -> Result<(), Failure> {
        let mut query = TaskQuery {
            status: Some(status.to_owned()),
            limit: Some(PAGE),
            ..TaskQuery::default()
        };
        let mut found = 0;
        loop {
            self.requests += 1;
            let page = patiently(async || self.client.tasks(&query).await).await?;
            found += page.tasks.len();
            seen.extend(page.tasks.into_iter().map(|task| (task.id.clone(), task)));
            query.cursor = page.next_cursor;
            if query.cursor.is_none() {
                return Ok(());
            }
            if found >= FOLLOWED_MAX {
                if !std::mem::replace(&mut self.is_cut, true) {
                    report::say(&format!(
                        "more than {FOLLOWED_MAX} tasks are {status}: the newest are followed"
                    ));
                }
                return Ok(());
            }
        }
    }
}

/// What was told so far.
#[derive(Debug, Default)]
struct Known {
    /// The newest task that was seen.
    newest: Option<String>,
    unfinished: BTreeMap<String, Stand>,
}

impl Known {
    fn is_empty(&self) -> bool {
        self.newest.is_none()
    }

    /// Whether what is as old as this was seen before.
    fn reaches(&self, id: &str) -> bool {
        self.newest.as_deref().is_some_and(|newest| id <= newest)
    }

    /// What was not over when it was seen last, and is not among these.
    fn missing<'a>(&'a self, seen: &'a Seen) -> impl Iterator<Item = &'a String> {
        self.unfinished.keys().filter(|id| !seen.contains_key(*id))
    }

    fn forget(&mut self, id: &str) {
        self.unfinished.remove(id);
    }

    /// What is new of these, the oldest first.
    fn news(&mut self, seen: Seen) -> Vec<TaskInfo> {
        let mut news = Vec::new();
        let before = self.newest.clone();
        for (id, task) in seen {
            let stand = (task.status.clone(), task.attempts);
            let told = self.unfinished.get(&id);
            // What was over before is not told again; what was over and is queued again is.
            let is_old = told.is_none() && task.is_over() && before.as_ref().is_some_and(|newest| id <= *newest);
            if is_old || told == Some(&stand) {
                continue;
            }
            if self.newest.as_ref().is_none_or(|newest| id > *newest) {
                self.newest = Some(id.clone());
            }
            if task.is_over() {
                self.unfinished.remove(&id);
            } else {
                self.unfinished.insert(id, stand);
            }
            news.push(task);
        }
        while self.unfinished.len() > FOLLOWED_MAX {
            self.unfinished.pop_first();
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn seen(tasks: &[(&str, &str)]) -> Seen {
        let task = |id: &str, status: &str| -> TaskInfo {
            let at = "2026-11-22T09:00:00Z";
            let task = json!({"id": id, "type": "x", "status": status, "priority": "low", "run_at": at, "attempts": 0,
                "attempts_max": 1, "created_at": at});
            serde_json::from_value(task).unwrap()
        };
        tasks
            .iter()
            .map(|(id, status)| ((*id).to_owned(), task(id, status)))
            .collect()
    }

    #[test]
    fn what_changes_is_told_once_however_old_it_is() {
        let mut known = Known::default();
        let mut check = |tasks: &[(&str, &str)], told: &[&str], missing: &[&str]| {
            let seen = seen(tasks);
            let gone: Vec<&str> = known.missing(&seen).map(String::as_str).collect();
            assert_eq!(gone, missing, "{tasks:?}");
            let news: Vec<String> = known.news(seen).into_iter().map(|task| task.id).collect();
            assert_eq!(news, told, "{tasks:?}");
        };
        check(
            &[("1", "running"), ("3", "completed"), ("4", "pending")],
            &["1", "3", "4"],
            &[],
        );
        check(&[("1", "running"), ("3", "completed"), ("4", "pending")], &[], &[]);
        // A newer one came, and is over at once; of the old ones one is not on the page.
        check(&[("4", "running"), ("5", "failed")], &["4", "5"], &["1"]);
        check(&[("1", "completed"), ("4", "running")], &["1"], &[]);
        // What was over is queued again.
        check(&[("3", "pending"), ("4", "running")], &["3"], &[]);
        check(
            &[("3", "completed"), ("4", "completed"), ("5", "failed")],
            &["3", "4"],
            &[],
        );
    }
}
