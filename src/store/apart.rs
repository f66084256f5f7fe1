//! Work that takes long, on threads where it holds up nobody else.

use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::{JoinError, JoinSet, spawn_blocking};

/// Places for work of one kind, which therefore never takes all threads.
#[derive(Clone, Debug)]
pub struct Apart {
    places: Arc<Semaphore>,
}

impl Apart {
    /// So many at a time.
    pub fn new(places: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(places)) }
    }

    /// Does it once there is a place. Fails if it panics.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
        let at = |place| {
            spawn_blocking(move || {
                let done = work();
                drop(place);
                done
            })
        };
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return at(place).await;
        }
        // A free place is given to who has waited longest. The caller may be a
        // future that is not polled for a while, and would keep it from all
        // others; so it is waited for in a task, which ends with the caller.
        let places = Arc::clone(&self.places);
        let mut waiting = JoinSet::new();
        waiting.spawn(async move {
            let place = places.acquire_owned().await.expect("the semaphore is never closed");
            at(place).await
        });
        waiting.join_next().await.expect("there is one task")?
    }

    /// A place for work that is done here, if there is a free one.
    pub fn try_place(&self) -> Option<SemaphorePermit<'_>> {
        self.places.try_acquire().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn one_who_is_not_polled_keeps_no_place_from_others() {
        let apart = Apart::new(1);
        let (free, occupied) = mpsc::channel::<()>();
        let other = apart.clone();
        let first = tokio::spawn(async move { other.run(move || occupied.recv().is_err()).await });
        tokio::task::yield_now().await;
        let mut asleep = Box::pin(apart.run(|| 2));
        assert!((&mut asleep).now_or_never().is_none());
        tokio::task::yield_now().await;
        drop(free);
        assert_eq!(apart.run(|| 3).await.unwrap(), 3);
        assert!(first.await.unwrap().unwrap());
        assert_eq!(asleep.await.unwrap(), 2);
    }

    #[tokio::test]
    async fn what_panics_leaves_its_place() {
        let apart = Apart::new(1);
        assert!(apart.run(|| panic!("on purpose")).await.is_err());
        assert_eq!(apart.run(|| 1).await.unwrap(), 1);
        assert!(apart.try_place().is_some());
    }
}
