//! A queue as one would explain it: a list of tasks, looked through from the beginning each time. Slow and plain, and what
//! the real one is compared with. It shares no rule with it but what the numbers mean.

use forebay_domain::{model::Priority, task::State};
use proptest::prelude::*;

pub(super) const LEASE_MS: i64 = 30_000;
/// A lease that ends later than this was given by a clock that was ahead.
const LEASE_MAX_MS: i64 = 600_000;
const STEP_MS: i64 = 60_000;
pub(super) const TYPES: [&str; 2] = ["a", "b"];

#[derive(Debug, Clone)]
pub(super) enum Op {
    Submit {
        of: usize,
        priority: Priority,
        lane: Option<u8>,
        ahead_ms: i64,
        attempts_max: u32,
        key: Option<u8>,
    },
    Claim {
        room: [u32; 2],
        at_most: u32,
    },
    Beat {
        run: usize,
    },
    Settle {
        run: usize,
        how: How,
    },
    Cancel {
        task: usize,
    },
    Requeue {
        task: usize,
    },
    /// The clock goes on.
    Wait {
        by_ms: i64,
    },
    /// Somebody sets the clock.
    Jump {
        by_ms: i64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Done,
    Again,
    Never,
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
}

#[derive(Debug, Clone)]
pub(super) struct Kept {
    of: usize,
    priority: Priority,
    lane: Option<u8>,
    key: Option<u8>,
    at: At,
    due_ms: i64,
    ready_ms: i64,
    lease_end_ms: i64,
    attempts: u32,
    attempts_max: u32,
    wants_end: bool,
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
        }
    }

    pub(super) fn rank(&self) -> i64 {
        self.ready_ms - STEP_MS * self.priority as i64
    }

    fn has_turn(&self) -> bool {
        matches!(self.at, At::Ready | At::Running | At::BackingOff)
    }
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub now_ms: i64,
    pub tasks: Vec<Kept>,
    /// The task of each run that was ever begun.
    pub runs: Vec<usize>,
}

impl Model {
    /// The task that it becomes, and whether it was there before; nothing where the key is another task's.
    pub(super) fn submit(&mut self, op: &Op) -> Option<(usize, bool)> {
        let Op::Submit {
            of,
            priority,
            lane,
            ahead_ms,
            attempts_max,
            key,
        } = op.clone()
        else {
            return None;
        };
        if let Some(earlier) = self.tasks.iter().position(|task| key.is_some() && task.key == key) {
            let task = &self.tasks[earlier];
            let same = (task.of, task.priority, task.lane) == (of, priority, lane);
            return same.then_some((earlier, true));
        }
        let due_ms = self.now_ms + ahead_ms;
        let at = match (ahead_ms > 0, lane) {
            (true, _) => At::Ahead,
            (false, Some(_)) => At::Behind,
            (false, None) => At::Ready,
        };
        self.tasks.push(Kept {
            of,
            priority,
            lane,
            key,
            at,
            due_ms,
            ready_ms: due_ms,
            lease_end_ms: 0,
            attempts: 0,
            attempts_max,
            wants_end: false,
            run: None,
            is_held: false,
        });
        self.turns();
        Some((self.tasks.len() - 1, false))
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

    /// The ranks that a claim finds.
    pub(super) fn claimable(&self, room: [u32; 2], at_most: u32) -> Vec<i64> {
        let mut found = Vec::new();
        for (of, room) in room.into_iter().enumerate() {
            let ready = self.tasks.iter().filter(|task| task.of == of && task.at == At::Ready);
            let mut ranks: Vec<i64> = ready.map(Kept::rank).collect();
            ranks.sort_unstable();
            ranks.truncate(room as usize);
            found.extend(ranks);
        }
        found.sort_unstable();
        found.truncate(at_most as usize);
        found
    }

    pub(super) fn claim(&mut self, number: usize) {
        self.runs.push(number);
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
        let task = &mut self.tasks[self.runs[run]];
        if task.at != At::Running || task.run != Some(run) {
            return None;
        }
        task.lease_end_ms = now_ms + LEASE_MS;
        Some(task.wants_end)
    }

    /// What becomes of it and whether it had before, or nothing where it is no longer theirs.
    pub(super) fn settle(&mut self, run: usize, how: How) -> Option<(State, bool)> {
        let now_ms = self.now_ms;
        let task = &mut self.tasks[self.runs[run]];
        if task.run != Some(run) || !task.is_held {
            return None;
        }
        if task.at != At::Running {
            return Some((task.state(), true));
        }
        let is_last = task.attempts >= task.attempts_max;
        task.at = match how {
            How::Done => At::Ended(State::Completed),
            _ if task.wants_end => At::Ended(State::Cancelled),
            How::Never => At::Ended(State::Failed),
            How::Again | How::GivenBack if is_last => At::Ended(State::Dead),
            How::Again => At::BackingOff,
            How::GivenBack | How::Unbegun => At::Ready,
        };
        match how {
            How::GivenBack => task.ready_ms = now_ms,
            How::Unbegun => {
                task.attempts -= 1;
                task.ready_ms = task.due_ms;
            }
            How::Done | How::Again | How::Never => {}
        }
        let state = task.state();
        self.turns();
        Some((state, false))
    }

    pub(super) fn cancel(&mut self, number: usize) -> Option<State> {
        let task = &mut self.tasks[number];
        match task.at {
            At::Running => task.wants_end = true,
            At::Ended(State::Cancelled) => {}
            At::Ended(_) => return None,
            _ => task.at = At::Ended(State::Cancelled),
        }
        let state = task.state();
        self.turns();
        Some(state)
    }

    pub(super) fn requeue(&mut self, number: usize) -> bool {
        let now_ms = self.now_ms;
        let task = &mut self.tasks[number];
        if !matches!(task.at, At::Ended(State::Failed | State::Dead)) {
            return false;
        }
        task.at = if task.lane.is_some() { At::Behind } else { At::Ready };
        (task.due_ms, task.ready_ms) = (now_ms, now_ms);
        task.attempts = 0;
        task.wants_end = false;
        task.is_held = false;
        self.turns();
        true
    }

    /// Takes tasks from whoever was not heard of.
    pub(super) fn lapse(&mut self) {
        for task in &mut self.tasks {
            let is_over = task.lease_end_ms <= self.now_ms || task.lease_end_ms > self.now_ms + LEASE_MAX_MS;
            if task.at != At::Running || !is_over {
                continue;
            }
            task.is_held = false;
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

    /// When what backs off is due is drawn by lot: the real one says it.
    pub(super) fn learn(&mut self, number: usize, due_ms: i64) {
        let task = &mut self.tasks[number];
        if task.at == At::BackingOff {
            task.due_ms = due_ms;
        }
    }

    /// In each lane the oldest takes its turn, unless another has it.
    fn turns(&mut self) {
        for lane in self.tasks.iter().filter_map(|task| task.lane).collect::<Vec<_>>() {
            let of_lane = |task: &&mut Kept| task.lane == Some(lane);
            if self.tasks.iter().any(|task| task.lane == Some(lane) && task.has_turn()) {
                continue;
            }
            if let Some(next) = self.tasks.iter_mut().filter(of_lane).find(|task| task.at == At::Behind) {
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

pub(super) fn ops(count: usize) -> impl Strategy<Value = Vec<Op>> {
    let priority = prop::sample::select(Priority::ALL.to_vec());
    let lane = prop::option::weighted(0.5, 0..2_u8);
    let ahead_ms = prop_oneof![3 => Just(0_i64), 1 => 1..100_000_i64];
    let key = prop::option::weighted(0.2, 0..3_u8);
    let submit = (0..2_usize, priority, lane, ahead_ms, 1..4_u32, key).prop_map(
        |(of, priority, lane, ahead_ms, attempts_max, key)| Op::Submit {
            of,
            priority,
            lane,
            ahead_ms,
            attempts_max,
            key,
        },
    );
    let how = prop::sample::select(vec![
        How::Done,
        How::Done,
        How::Again,
        How::Never,
        How::GivenBack,
        How::Unbegun,
    ]);
    let op = prop_oneof![
        6 => submit,
        5 => ([0..3_u32, 0..3_u32], 1..4_u32).prop_map(|(room, at_most)| Op::Claim { room, at_most }),
        2 => any::<usize>().prop_map(|run| Op::Beat { run }),
        5 => (any::<usize>(), how).prop_map(|(run, how)| Op::Settle { run, how }),
        2 => any::<usize>().prop_map(|task| Op::Cancel { task }),
        2 => any::<usize>().prop_map(|task| Op::Requeue { task }),
        3 => (1..40_000_i64).prop_map(|by_ms| Op::Wait { by_ms }),
        1 => prop::sample::select(vec![-3_600_000_i64, -60_000, -5_000, 60_000, 3_600_000])
            .prop_map(|by_ms| Op::Jump { by_ms }),
    ];
    prop::collection::vec(op, count)
}
