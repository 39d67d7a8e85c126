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
    waker: Option<Waker>,
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
            let waker = {
                let mut state = lock(&cell.0);
                state.detail = Some(Arc::clone(detail));
                state.waker.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
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

impl Future for Watch {
    type Output = Arc<TaskDetail>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = lock(&self.cell.0);
        if let Some(detail) = &state.detail {
            return Poll::Ready(Arc::clone(detail));
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
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
