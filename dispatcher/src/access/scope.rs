//! The scopes of tokens.

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Request builds, and see their status.
    Submit,
    /// See everything, logs and labels too.
    Read,
    /// Cancel builds, set rules and the policy, drain workers, override bans, and the like.
    Operate,
}

impl Scope {
    pub(crate) const ALL: [Self; 3] = [Self::Submit, Self::Read, Self::Operate];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Read => "read",
            Self::Operate => "operate",
        }
    }

    pub(crate) fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// The bits of all scopes.
pub(crate) const ALL: u8 = 0b111;
