//! A connection and the asks on it, as one task.
//!
//! When Redis answers a batch, many asks of one connection go on at once. As tasks of their
//! own, each would wake the connection, which would write one reply, and be woken by the next.
//! Here whatever is ready goes on first, and then the connection writes all of their replies
//! together.

use futures_util::future::{CatchUnwind, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use hyper::rt::Executor;
use std::mem;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

/// Takes what a connection wants to have run beside it.
#[derive(Clone, Default)]
pub(super) struct Begun(Arc<Mutex<Vec<Beside>>>);

/// What is run beside a connection. A panic ends it, and nothing else.
type Beside = CatchUnwind<AssertUnwindSafe<Pin<Box<dyn Future<Output = ()> + Send>>>>;

/// A connection with what it has begun. What is not over when the connection ends is dropped:
/// there is nobody left to reply to.
pub(super) struct Together<C> {
    connection: Pin<Box<C>>,
    begun: Begun,
    beside: FuturesUnordered<Beside>,
}

impl<C> Together<C> {
    /// A connection that was made with `begun`.
    pub(super) fn new(connection: C, begun: Begun) -> Self {
        Self { connection: Box::pin(connection), begun, beside: FuturesUnordered::new() }
    }
}

impl<C: Future> Future for Together<C> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        let this = &mut *self;
        loop {
            while let Poll::Ready(Some(_)) = this.beside.poll_next_unpin(cx) {}
            let ended = this.connection.as_mut().poll(cx);
            let begun = mem::take(&mut *this.begun.lock());
            if ended.is_ready() || begun.is_empty() {
                return ended;
            }
            this.beside.extend(begun);
        }
    }
}

impl Begun {
    /// Only the connection's own task ever holds it.
    fn lock(&self) -> MutexGuard<'_, Vec<Beside>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Begun {
    fn execute(&self, future: F) {
        let future: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(future);
        self.lock().push(AssertUnwindSafe(future).catch_unwind());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Waker;
    use tokio::sync::oneshot;

    #[test]
    fn what_is_answered_together_goes_on_before_the_connection() {
        const ASKS: usize = 20;
        let (begun, polls) = (Begun::default(), Cell::new(0));
        let connection = poll_fn(|_| {
            polls.set(polls.get() + 1);
            Poll::<()>::Pending
        });
        let mut together = pin!(Together::new(connection, begun.clone()));
        let mut context = Context::from_waker(Waker::noop());
        let replied = Arc::new(AtomicUsize::new(0));
        let answers: Vec<_> = (0..ASKS)
            .map(|_| {
                let ((answer, answered), replied) = (oneshot::channel::<()>(), replied.clone());
                begun.execute(async move {
                    answered.await.unwrap();
                    replied.fetch_add(1, Ordering::Relaxed);
                });
                answer
            })
            .collect();
        assert!(together.as_mut().poll(&mut context).is_pending());
        answers.into_iter().for_each(|answer| answer.send(()).unwrap());
        let before = polls.get();
        assert!(together.as_mut().poll(&mut context).is_pending());
        assert_eq!((replied.load(Ordering::Relaxed), polls.get() - before), (ASKS, 1));
    }

    #[tokio::test]
    async fn a_panic_ends_one_ask_and_neither_the_others_nor_the_connection() {
        let begun = Begun::default();
        let connection = {
            let begun = begun.clone();
            async move {
                let (answer, answered) = oneshot::channel();
                begun.execute(async { panic!("on purpose") });
                begun.execute(async move { answer.send(()).unwrap() });
                answered.await
            }
        };
        assert!(Together::new(connection, begun).await.is_ok());
    }
}
