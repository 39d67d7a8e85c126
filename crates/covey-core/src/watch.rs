//! Waiting for a task to become final, without a runtime: a future and the
//! place where it is woken.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::id::TaskId;
use crate::task::TaskDetail;

/// Those who wait, by task.
#[derive(Default)]
pub struct Watchers {
    waiting: Mutex<HashMap<TaskId, Vec<Arc<Cell>>>>,
}

/// Where one of them is woken, and what it is told.
#[derive(Default)]
struct Cell(Mutex<CellState>);

#[derive(Default)]
struct CellState {
    detail: Option<Arc<TaskDetail>>,
    /// The task that was waited for was not made.
    is_called_off: bool,
    waker: Option<Waker>,
}

impl Cell {
    /// Tells the one who waits.
    fn tell(&self, change: impl FnOnce(&mut CellState)) {
        let waker = {
            let mut state = lock(&self.0);
            change(&mut state);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Nothing that is done under these locks can panic, and what they guard is
/// whole at every moment, so a poisoned lock is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watchers {
    /// Begins to wait for a task. Begin before looking at the task's state, or
    /// its end may be missed.
    #[must_use]
    pub fn watch(self: &Arc<Self>, id: TaskId) -> Watch {
        let cell = Arc::new(Cell::default());
        lock(&self.waiting).entry(id).or_default().push(Arc::clone(&cell));
        Watch { id, cell, watchers: Arc::clone(self) }
    }

    /// Tells those who wait for this task that it is final.
    pub fn finished(&self, detail: &Arc<TaskDetail>) {
        let Some(cells) = lock(&self.waiting).remove(&detail.task.id) else { return };
        for cell in cells {
            cell.tell(|state| state.detail = Some(Arc::clone(detail)));
        }
    }

    /// The tasks that someone waits for.
    #[must_use]
    pub fn tasks(&self) -> Vec<TaskId> {
        lock(&self.waiting).keys().copied().collect()
    }

    /// Whether someone waits for this task.
    #[must_use]
    pub fn is_watched(&self, id: TaskId) -> bool {
        lock(&self.waiting).contains_key(&id)
    }

    /// How many are waiting.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.waiting).values().map(Vec::len).sum()
    }
}

/// A future that ends when the task is final. Dropping it ends the waiting.
pub struct Watch {
    id: TaskId,
    cell: Arc<Cell>,
    watchers: Arc<Watchers>,
}

impl Watch {
    /// The task, once it is final; none if it was not made.
    pub(crate) fn poll_end(&self, context: &Context<'_>) -> Poll<Option<Arc<TaskDetail>>> {
        let mut state = lock(&self.cell.0);
        if state.detail.is_some() || state.is_called_off {
            return Poll::Ready(state.detail.clone());
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Calls this watch off when it is dropped, unless the task was made.
    pub(crate) fn unless_made(&self) -> UnlessMade {
        UnlessMade(Some(Arc::clone(&self.cell)))
    }
}

impl Future for Watch {
    type Output = Arc<TaskDetail>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.poll_end(context) {
            Poll::Ready(Some(detail)) => Poll::Ready(detail),
            // One that can be called off is in a `Call` and not waited for by itself.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

/// Calls a watch off when it is dropped: also when the operation that was to make the task is dropped
/// with the store.
pub(crate) struct UnlessMade(Option<Arc<Cell>>);

impl UnlessMade {
    /// The task was made.
    pub(crate) fn made(mut self) {
        self.0 = None;
    }
}

impl Drop for UnlessMade {
    fn drop(&mut self) {
        if let Some(cell) = &self.0 {
            cell.tell(|state| state.is_called_off = true);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut waiting = lock(&self.watchers.waiting);
        if let Some(cells) = waiting.get_mut(&self.id) {
            cells.retain(|cell| !Arc::ptr_eq(cell, &self.cell));
            if cells.is_empty() {
                waiting.remove(&self.id);
            }
        }
    }
}
