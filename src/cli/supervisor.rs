//! What a supervisor that has started this process is told of it, by the protocol of
//! systemd's `sd_notify`: a datagram to the socket that `NOTIFY_SOCKET` names.

#[cfg(unix)]
use sd_notify::NotifyState;

/// True if one has started this process, and waits to be told.
pub fn is_there() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// It serves from now on.
pub fn tell_ready() {
    #[cfg(unix)]
    tell(NotifyState::Ready);
}

/// It is coming to its end.
pub fn tell_stopping() {
    #[cfg(unix)]
    tell(NotifyState::Stopping);
}

#[cfg(unix)]
fn tell(state: NotifyState<'_>) {
    if let Err(cause) = sd_notify::notify(&[state]) {
        tracing::warn!(%cause, "the supervisor that NOTIFY_SOCKET names could not be told");
    }
}
