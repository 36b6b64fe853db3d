//! Where a task stands: what the store keeps, and what people are told.

/// Where a task stands, as everybody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// It may run as soon as somebody has time for it and its turn has come.
    Pending,
    /// It will be pending later.
    Scheduled,
    Running,
    Completed,
    /// It failed in a way that trying again would not mend.
    Failed,
    Cancelled,
    /// It failed as often as it may. Somebody may look at it and queue it again.
    Dead,
}

impl State {
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Scheduled,
        Self::Running,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::Dead,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Scheduled => "scheduled",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Dead => "dead",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Whether nothing happens to it any more unless somebody queues it again.
    pub fn is_final(self) -> bool {
        match self {
            Self::Completed | Self::Failed | Self::Cancelled | Self::Dead => true,
            Self::Pending | Self::Scheduled | Self::Running => false,
        }
    }
}

/// Where a task stands, as the store keeps it. There are two more than states: what is behind others of its lane, and what
/// failed and is tried again, cannot be claimed, and so whoever claims never looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Its time has not come.
    Scheduled,
    /// Another of its lane comes first.
    Waiting,
    /// Whoever comes may claim it.
    Pending,
    Running,
    /// It failed, and is pending again after a while. Nothing of its lane overtakes it.
    Retrying,
    Completed,
    Failed,
    Cancelled,
    Dead,
}

impl Stage {
    pub const ALL: [Self; 9] = [
        Self::Scheduled,
        Self::Waiting,
        Self::Pending,
        Self::Running,
        Self::Retrying,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::Dead,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Waiting => "waiting",
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Dead => "dead",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.as_str() == text)
    }

    pub fn state(self) -> State {
        match self {
            Self::Scheduled | Self::Retrying => State::Scheduled,
            Self::Waiting | Self::Pending => State::Pending,
            Self::Running => State::Running,
            Self::Completed => State::Completed,
            Self::Failed => State::Failed,
            Self::Cancelled => State::Cancelled,
            Self::Dead => State::Dead,
        }
    }

    /// Whether it is the one of its lane whose turn it is.
    pub fn holds_lane(self) -> bool {
        match self {
            Self::Pending | Self::Running | Self::Retrying => true,
            Self::Scheduled | Self::Waiting | Self::Completed | Self::Failed | Self::Cancelled | Self::Dead => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_written() {
        assert!(
            State::ALL
                .iter()
                .all(|state| State::parse(state.as_str()) == Some(*state))
        );
        assert!(
            Stage::ALL
                .iter()
                .all(|stage| Stage::parse(stage.as_str()) == Some(*stage))
        );
        assert_eq!(State::parse("Running"), None);
    }
}
