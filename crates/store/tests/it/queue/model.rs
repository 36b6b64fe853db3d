//! A queue as one would explain it: a list of tasks, looked through from the beginning each time. Slow and plain, and what
//! the real one is compared with. It shares no rule with it but what the numbers mean.

use forebay_domain::{model::Priority, task::State};
use proptest::prelude::*;

pub(super) const LEASE_MS: i64 = 30_000;
pub(super) const BACK_OFF_MS: i64 = 20_000;
/// A lease that ends later than this was given by a clock that was ahead.
const LEASE_MAX_MS: i64 = 600_000;
const STEP_MS: i64 = 60_000;
/// How long what has ended is kept, and what is dead.
pub(super) const KEPT_MS: i64 = 1_200_000;
const DEAD_KEPT_MS: i64 = 7 * 24 * 3_600_000;
/// How long a task waits for one gateway alone.
pub(super) const WANTED_MS: i64 = 30_000;
pub(super) const TYPES: [&str; 2] = ["a", "b"];

/// What one of the gateways is asked at once, or what happens to the clock of both.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Submit(usize, Vec<New>),
    Move(usize, Vec<Move>),
    /// Apart from all else, since it is no part of the group that moves are written in.
    Forget(usize, usize),
    /// The clock goes on.
    Wait {
        by_ms: i64,
    },
    /// Somebody sets the clock.
    Jump {
        by_ms: i64,
    },
}

#[derive(Debug, Clone)]
pub(super) struct New {
    pub of: usize,
    pub priority: Priority,
    pub lane: Option<u8>,
    pub ahead_ms: i64,
    pub attempts_max: u32,
    pub key: Option<u8>,
    /// The gateway that is to run it, if that has time soon.
    pub wanted_by: Option<usize>,
}

/// What happens to what is there. Runs and tasks are numbers of which the rest counts.
#[derive(Debug, Clone)]
pub(super) enum Move {
    Claim { room: [u32; 2], at_most: u32 },
    Beat { run: usize },
    Settle { run: usize, how: How },
    Cancel { task: usize },
    Requeue { task: usize },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Done,
    /// It broke, and might not another time.
    Again,
    /// It broke, and always would.
    Never,
    /// There was no room for it.
    Refused,
    /// There was too much to do.
    Busy,
    Cancelled,
    GivenBack,
    Unbegun,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Ahead,
    Behind,
    Ready,
    Running,
    BackingOff,
    Ended(State),
    Gone,
}

#[derive(Debug, Clone)]
pub(super) struct Kept {
    /// As the real one calls it: the oldest is the one with the smallest.
    pub id: String,
    of: usize,
    priority: Priority,
    lane: Option<u8>,
    key: Option<u8>,
    at: At,
    due_ms: i64,
    ready_ms: i64,
    lease_end_ms: i64,
    ended_ms: i64,
    wanted: Option<(usize, i64)>,
    attempts: u32,
    attempts_max: u32,
    wants_end: bool,
    /// What it failed of may have passed by the time at which it is sent again.
    may_pass: bool,
    /// The number of the run that has it, or had it last.
    run: Option<usize>,
    /// That run may still say how it ended.
    is_held: bool,
}

impl Kept {
    pub(super) fn state(&self) -> State {
        match self.at {
            At::Ahead | At::BackingOff => State::Scheduled,
            At::Behind | At::Ready => State::Pending,
            At::Running => State::Running,
            At::Ended(state) => state,
            At::Gone => unreachable!("nobody asks how something is that is not there"),
        }
    }

    pub(super) fn is_there(&self) -> bool {
        self.at != At::Gone
    }

    pub(super) fn rank(&self) -> i64 {
        self.ready_ms - STEP_MS * self.priority as i64
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.at, At::Ended(_) | At::Gone)
    }

    /// Whether sending it again has it done, and not told.
    fn returns(&self) -> bool {
        match self.at {
            At::Ended(State::Failed) => self.may_pass,
            At::Ended(State::Dead) => self.may_pass || self.attempts_max > 1,
            _ => false,
        }
    }

    fn has_turn(&self) -> bool {
        matches!(self.at, At::Ready | At::Running | At::BackingOff)
    }
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub now_ms: i64,
    pub tasks: Vec<Kept>,
    /// The task of each run that was ever begun, and which gateway has it.
    pub runs: Vec<(usize, usize)>,
}

/// What became of a submission.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Submission {
    pub task: usize,
    pub state: State,
    pub is_repeat: bool,
}

/// What became of a settle.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Settlement {
    State(State),
    /// It had been settled; it stands wherever it stands when that is looked up.
    Repeat(usize),
    Lost,
    /// Nobody knows the task.
    Gone,
}

impl Model {
    /// Nothing where the key is another task's.
    pub(super) fn submit(&mut self, new: &New) -> Option<Submission> {
        let named = |task: &Kept| task.is_there() && new.key.is_some() && task.key == new.key;
        if let Some(earlier) = self.tasks.iter().position(named) {
            let task = &self.tasks[earlier];
            if (task.of, task.priority, task.lane) != (new.of, new.priority, new.lane) {
                return None;
            }
            let returns = task.returns();
            if returns {
                self.begin_anew(earlier, new.ahead_ms);
                self.tasks[earlier].wanted = self.wanted(new);
            }
            return Some(Submission {
                task: earlier,
                state: self.tasks[earlier].state(),
                is_repeat: !returns,
            });
        }
        self.tasks.push(Kept {
            id: String::new(),
            of: new.of,
            priority: new.priority,
            lane: new.lane,
            key: new.key,
            at: At::Ready,
            due_ms: 0,
            ready_ms: 0,
            lease_end_ms: 0,
            ended_ms: 0,
            wanted: self.wanted(new),
            attempts: 0,
            attempts_max: new.attempts_max,
            wants_end: false,
            may_pass: false,
            run: None,
            is_held: false,
        });
        let task = self.tasks.len() - 1;
        self.begin_anew(task, new.ahead_ms);
        Some(Submission {
            task,
            state: self.tasks[task].state(),
            is_repeat: false,
        })
    }

    fn wanted(&self, new: &New) -> Option<(usize, i64)> {
        new.wanted_by.map(|gateway| (gateway, self.now_ms + WANTED_MS))
    }

    fn begin_anew(&mut self, number: usize, ahead_ms: i64) {
        let due_ms = self.now_ms + ahead_ms;
        let task = &mut self.tasks[number];
        task.at = match (ahead_ms > 0, task.lane) {
            (true, _) => At::Ahead,
            (false, Some(_)) => At::Behind,
            (false, None) => At::Ready,
        };
        (task.due_ms, task.ready_ms) = (due_ms, due_ms);
        task.attempts = 0;
        task.wants_end = false;
        task.is_held = false;
    }

    /// What is due is ready. Whoever claims looks for it first.
    pub(super) fn wake(&mut self) {
        for task in &mut self.tasks {
            if task.due_ms > self.now_ms {
                continue;
            }
            match task.at {
                At::Ahead if task.lane.is_some() => task.at = At::Behind,
                At::Ahead | At::BackingOff => task.at = At::Ready,
                _ => continue,
            }
            task.ready_ms = task.due_ms;
        }
        self.turns();
    }

    /// The ranks that a claim at this gateway finds.
    pub(super) fn claimable(&self, gateway: usize, room: [u32; 2], at_most: u32) -> Vec<i64> {
        let is_free = |task: &Kept| {
            task.wanted
                .is_none_or(|(by, until_ms)| by == gateway || until_ms <= self.now_ms)
        };
        let mut found = Vec::new();
        for (of, room) in room.into_iter().enumerate() {
            let ready = self.tasks.iter().filter(|task| task.of == of && task.at == At::Ready);
            let ready = ready.filter(|task| is_free(task));
            let mut ranks: Vec<i64> = ready.map(Kept::rank).collect();
            ranks.sort_unstable();
            ranks.truncate(room as usize);
            found.extend(ranks);
        }
        found.sort_unstable();
        found.truncate(at_most as usize);
        found
    }

    pub(super) fn claim(&mut self, number: usize, gateway: usize) {
        self.runs.push((number, gateway));
        let (run, end) = (self.runs.len() - 1, self.now_ms + LEASE_MS);
        let task = &mut self.tasks[number];
        assert_eq!(task.at, At::Ready, "{task:?}");
        task.at = At::Running;
        task.attempts += 1;
        task.lease_end_ms = end;
        task.run = Some(run);
        task.is_held = true;
    }

    /// Whether it is still theirs, and should end.
    pub(super) fn beat(&mut self, run: usize) -> Option<bool> {
        let now_ms = self.now_ms;
        let task = &mut self.tasks[self.runs[run].0];
        if task.at != At::Running || task.run != Some(run) {
            return None;
        }
        task.lease_end_ms = now_ms + LEASE_MS;
        Some(task.wants_end)
    }

    pub(super) fn settle(&mut self, run: usize, how: How) -> Settlement {
        let (number, now_ms) = (self.runs[run].0, self.now_ms);
        let task = &mut self.tasks[number];
        if !task.is_there() {
            return Settlement::Gone;
        }
        if task.run != Some(run) || !task.is_held {
            return Settlement::Lost;
        }
        if task.at != At::Running {
            return Settlement::Repeat(number);
        }
        let is_last = task.attempts >= task.attempts_max;
        task.at = match how {
            How::Done => At::Ended(State::Completed),
            _ if task.wants_end => At::Ended(State::Cancelled),
            How::Cancelled => At::Ended(State::Cancelled),
            How::Never | How::Refused => At::Ended(State::Failed),
            How::Again | How::Busy | How::GivenBack if is_last => At::Ended(State::Dead),
            How::Again | How::Busy => At::BackingOff,
            How::GivenBack | How::Unbegun => At::Ready,
        };
        task.may_pass = matches!(how, How::Refused | How::Busy);
        match how {
            // When that is over is drawn by lot: later than now, until the real one has said it.
            How::Again | How::Busy => task.due_ms = now_ms + 1,
            How::GivenBack => task.ready_ms = now_ms,
            How::Unbegun => {
                task.attempts -= 1;
                task.ready_ms = task.due_ms;
            }
            How::Done | How::Never | How::Refused | How::Cancelled => {}
        }
        task.ended_ms = now_ms;
        Settlement::State(task.state())
    }

    pub(super) fn cancel(&mut self, number: usize) -> Option<State> {
        let now_ms = self.now_ms;
        let task = &mut self.tasks[number];
        match task.at {
            At::Running => task.wants_end = true,
            At::Ended(State::Cancelled) => {}
            At::Ended(_) | At::Gone => return None,
            _ => (task.at, task.ended_ms) = (At::Ended(State::Cancelled), now_ms),
        }
        Some(task.state())
    }

    pub(super) fn requeue(&mut self, number: usize) -> bool {
        let is_back = matches!(self.tasks[number].at, At::Ended(State::Failed | State::Dead));
        if is_back {
            self.begin_anew(number, 0);
        }
        is_back
    }

    /// What stands in a lane and has not ended stays.
    pub(super) fn forget(&mut self, number: usize) -> bool {
        let task = &mut self.tasks[number];
        let may_go = task.is_there() && (task.lane.is_none() || task.is_over());
        if may_go {
            task.at = At::Gone;
        }
        may_go
    }

    /// What has ended is kept for a while, and what is dead for longer.
    pub(super) fn prune(&mut self) {
        for task in &mut self.tasks {
            let kept_ms = match task.at {
                At::Ended(State::Dead) => DEAD_KEPT_MS,
                At::Ended(_) => KEPT_MS,
                _ => continue,
            };
            if task.ended_ms + kept_ms <= self.now_ms {
                task.at = At::Gone;
            }
        }
    }

    /// Takes tasks from whoever was not heard of.
    pub(super) fn lapse(&mut self) {
        for task in &mut self.tasks {
            let is_over = task.lease_end_ms <= self.now_ms || task.lease_end_ms > self.now_ms + LEASE_MAX_MS;
            if task.at != At::Running || !is_over {
                continue;
            }
            task.is_held = false;
            task.may_pass = false;
            task.due_ms = self.now_ms + 1;
            task.ended_ms = self.now_ms;
            task.at = if task.wants_end {
                At::Ended(State::Cancelled)
            } else if task.attempts >= task.attempts_max {
                At::Ended(State::Dead)
            } else {
                At::BackingOff
            };
        }
        self.turns();
    }

    /// What backs off for longer than it ever would was put off by a clock that has gone back.
    pub(super) fn catch_up(&mut self) {
        let now_ms = self.now_ms;
        for task in &mut self.tasks {
            if task.at == At::BackingOff && task.due_ms > now_ms + BACK_OFF_MS {
                task.at = At::Ready;
                (task.due_ms, task.ready_ms) = (now_ms, now_ms);
            }
        }
    }

    /// The tasks that run at a gateway.
    pub(super) fn running_at(&self, gateway: usize) -> Vec<usize> {
        let runs = |task: &Kept| task.at == At::Running && task.run.is_some_and(|run| self.runs[run].1 == gateway);
        let all = self.tasks.iter().enumerate();
        all.filter(|(_, task)| runs(task)).map(|(number, _)| number).collect()
    }

    /// When what backs off is due is drawn by lot: the real one says it.
    pub(super) fn learn(&mut self, number: usize, due_ms: i64) {
        let task = &mut self.tasks[number];
        if task.at == At::BackingOff {
            task.due_ms = due_ms;
        }
    }

    /// In each lane the oldest takes its turn, unless another has it: once whatever was asked at once has happened.
    pub(super) fn turns(&mut self) {
        for lane in self.tasks.iter().filter_map(|task| task.lane).collect::<Vec<_>>() {
            let waits = |task: &&mut Kept| task.lane == Some(lane) && task.at == At::Behind;
            if self.tasks.iter().any(|task| task.lane == Some(lane) && task.has_turn()) {
                continue;
            }
            if let Some(next) = self.tasks.iter_mut().filter(waits).min_by(|a, b| a.id.cmp(&b.id)) {
                next.at = At::Ready;
            }
        }
    }

    pub(super) fn check(&self) {
        for lane in 0..8 {
            let turns = self
                .tasks
                .iter()
                .filter(|task| task.lane == Some(lane) && task.has_turn());
            assert!(turns.count() <= 1, "two of one lane");
        }
    }
}

/// About so many. Each of two gateways is asked up to four things at once.
pub(super) fn ops(count: usize) -> impl Strategy<Value = Vec<Op>> {
    let priority = prop::sample::select(Priority::ALL.to_vec());
    let lane = prop::option::weighted(0.5, 0..2_u8);
    let ahead_ms = prop_oneof![3 => Just(0_i64), 1 => 1..100_000_i64];
    let key = prop::option::weighted(0.3, 0..3_u8);
    let wanted_by = prop::option::weighted(0.2, 0..2_usize);
    let new = (0..2_usize, priority, lane, ahead_ms, 1..4_u32, key, wanted_by).prop_map(
        |(of, priority, lane, ahead_ms, attempts_max, key, wanted_by)| New {
            // What one key stands for is mostly the same.
            of: key.map_or(of, |_| 0),
            priority: if key.is_some() && of == 0 {
                Priority::High
            } else {
                priority
            },
            lane: lane.filter(|_| key.is_none()).or(key.filter(|key| *key > 0).map(|_| 0)),
            ahead_ms,
            attempts_max,
            key,
            wanted_by,
        },
    );
    let how = prop::sample::select(vec![
        How::Done,
        How::Done,
        How::Again,
        How::Never,
        How::Refused,
        How::Busy,
        How::Cancelled,
        How::GivenBack,
        How::Unbegun,
    ]);
    let one = prop_oneof![
        5 => ([0..3_u32, 0..3_u32], 1..4_u32).prop_map(|(room, at_most)| Move::Claim { room, at_most }),
        2 => any::<usize>().prop_map(|run| Move::Beat { run }),
        5 => (any::<usize>(), how).prop_map(|(run, how)| Move::Settle { run, how }),
        2 => any::<usize>().prop_map(|task| Move::Cancel { task }),
        2 => any::<usize>().prop_map(|task| Move::Requeue { task }),
    ];
    let news = prop::collection::vec(new, 1..4);
    let moves = prop::collection::vec(one, 1..5);
    let op = prop_oneof![
        3 => (0..2_usize, news).prop_map(|(gateway, news)| Op::Submit(gateway, news)),
        7 => (0..2_usize, moves).prop_map(|(gateway, moves)| Op::Move(gateway, moves)),
        1 => (0..2_usize, any::<usize>()).prop_map(|(gateway, task)| Op::Forget(gateway, task)),
        2 => (1..40_000_i64).prop_map(|by_ms| Op::Wait { by_ms }),
        1 => prop::sample::select(vec![-3_600_000_i64, -60_000, -5_000, 60_000, 3_600_000])
            .prop_map(|by_ms| Op::Jump { by_ms }),
    ];
    prop::collection::vec(op, 1..2 * count)
}
