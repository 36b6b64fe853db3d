//! The words for how far a rental has come, and for what its owner wants of it.

/// How far a rental has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RentalState {
    /// It is to be; nobody was asked yet.
    Intended,
    /// The provider is being asked, or was when somebody died.
    Creating,
    /// The provider's answer could mean both; found out by the label.
    FindingOut,
    /// It is there.
    Up,
    /// It is there, and its provider is asked to end it until it is gone.
    Destroying,
    /// It never was.
    Refused,
    /// It is no more.
    Gone,
}

impl RentalState {
    pub const ALL: [Self; 7] = [
        Self::Intended,
        Self::Creating,
        Self::FindingOut,
        Self::Up,
        Self::Destroying,
        Self::Refused,
        Self::Gone,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Intended => "intended",
            Self::Creating => "creating",
            Self::FindingOut => "finding_out",
            Self::Up => "up",
            Self::Destroying => "destroying",
            Self::Refused => "refused",
            Self::Gone => "gone",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Whether there may be a machine that costs.
    pub fn is_live(self) -> bool {
        !matches!(self, Self::Refused | Self::Gone)
    }
}

/// What its owner wants of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Desired {
    Up,
    Gone,
}

impl Desired {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Gone => "gone",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::Up, Self::Gone].into_iter().find(|one| one.as_str() == text)
    }
}
