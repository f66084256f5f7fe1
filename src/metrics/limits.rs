//! The limits that somebody may meet.

/// A bound beyond which somebody is refused; most are keys of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Calls of one user in a second.
    Calls,
    /// Calls of one merchant in a second.
    MerchantCalls,
    /// Calls of one address in a second, by those who are not logged in.
    StrangerCalls,
    /// Failed logins in a minute.
    LoginFailures,
    /// Connections, in all and of one address.
    Connections,
    /// Long work of one account that waits.
    WaitingWork,
    /// Subscriptions.
    Subscriptions,
    /// Pulls that wait.
    WaitingPulls,
    /// Bytes of one body.
    BodyBytes,
    /// Bytes of bodies that are being received.
    ReceivedBytes,
    /// Bytes of answers that wait to be taken.
    UnsentBytes,
}

impl Limit {
    /// Each.
    pub const ALL: [Self; 11] = [
        Self::Calls,
        Self::MerchantCalls,
        Self::StrangerCalls,
        Self::LoginFailures,
        Self::Connections,
        Self::WaitingWork,
        Self::Subscriptions,
        Self::WaitingPulls,
        Self::BodyBytes,
        Self::ReceivedBytes,
        Self::UnsentBytes,
    ];

    /// Its name as the value of a label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::MerchantCalls => "merchant_calls",
            Self::StrangerCalls => "stranger_calls",
            Self::LoginFailures => "login_failures",
            Self::Connections => "connections",
            Self::WaitingWork => "waiting_work",
            Self::Subscriptions => "subscriptions",
            Self::WaitingPulls => "waiting_pulls",
            Self::BodyBytes => "body_bytes",
            Self::ReceivedBytes => "received_bytes",
            Self::UnsentBytes => "unsent_bytes",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_of_limits_differ() {
        assert_eq!(Limit::ALL.map(Limit::name).into_iter().collect::<HashSet<_>>().len(), Limit::ALL.len());
        assert!(Limit::ALL.iter().enumerate().all(|(place, limit)| *limit as usize == place));
    }
}
