//! Which tasks have been announced to which connected device, so that no
//! device is told of more than a bounded number at a time
//! (device-rpc "device connects and subscribes").
//!
//! This is memory, not truth: the store knows which tasks are open, and a
//! device that connects is told again. So a crash loses nothing here.

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use crate::id::{DeviceKey, TaskId};
use crate::links::LinkPlace;
use crate::port::Announcement;

/// How many devices are looked at for open tasks at a time.
/// Limit for the server: the others have their turn after these.
pub const LOOKS_MAX: usize = 64;
/// How many devices are remembered that did not listen when a task opened.
/// Limit for the server: further ones are announced to when they connect or poll.
const MISSED_MAX: usize = 65_536;

/// What to do about a task that became open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Announce it now, through this link; it has its place in the window.
    Announce(LinkPlace),
    /// Its turn comes, or it was announced before.
    Wait,
    /// Its device does not listen here.
    Elsewhere,
}

/// The announcements of all devices that listen for them.
pub struct Announcer {
    announcements_max: u32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    listening: HashMap<DeviceKey, Listener>,
    /// Devices for which a task opened here while they did not listen here:
    /// word of a subscription may come later than a task.
    missed: HashSet<DeviceKey>,
    due: VecDeque<DeviceKey>,
    waker: Option<Waker>,
}

struct Listener {
    /// The link through which the device listens.
    link: LinkPlace,
    /// Announced and not taken.
    window: Vec<TaskId>,
    /// Whether there may be open tasks in the store beyond the window.
    backlog: bool,
    /// Whether a look-up has been asked for and not begun.
    is_due: bool,
    /// Whether a look-up is under way.
    is_looking: bool,
    /// Whether a task opened since that look-up began, and so may not be in it.
    has_missed: bool,
    /// The tasks that were taken or became final since that look-up began, and
    /// so may be in it.
    answered: Vec<TaskId>,
}

impl Listener {
    const fn new(link: LinkPlace) -> Self {
        Self {
            link,
            window: Vec::new(),
            backlog: true,
            is_due: false,
            is_looking: false,
            has_missed: false,
            answered: Vec::new(),
        }
    }

    /// Takes a task out of the window, and out of what a look-up may bring.
    fn forget(&mut self, task: TaskId) {
        self.window.retain(|announced| *announced != task);
        if self.is_looking {
            self.answered.push(task);
        }
    }
}

impl State {
    fn make_due(&mut self, device: DeviceKey) {
        if let Some(listener) = self.listening.get_mut(&device)
            && !listener.is_due
        {
            listener.is_due = true;
            self.due.push_back(device);
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
    }
}

impl Announcer {
    /// An announcer that keeps to `announcements_max` per device.
    #[must_use]
    pub fn new(announcements_max: u32) -> Self {
        Self { announcements_max: announcements_max.max(1), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whole at every moment, so a poisoned lock is as good as any.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A device listens from now on; all of its open tasks are to be announced.
    pub fn listens(&self, device: DeviceKey, link: LinkPlace) {
        let mut state = self.state();
        state.missed.remove(&device);
        state.listening.insert(device, Listener::new(link));
        state.make_due(device);
    }

    /// A device listens from now on, and another server announces what is open.
    pub fn listens_elsewhere(&self, device: DeviceKey, link: LinkPlace) {
        let mut state = self.state();
        state.listening.insert(device, Listener::new(link));
        if state.missed.remove(&device) {
            state.make_due(device);
        }
    }

    /// Another server has announced a task.
    pub fn announced_elsewhere(&self, device: DeviceKey, task: TaskId) {
        let mut state = self.state();
        let Some(listener) = state.listening.get_mut(&device) else { return };
        if !listener.window.contains(&task) {
            listener.window.push(task);
        }
    }

    /// Another server has taken an answer, and announces what comes next.
    pub fn answered_elsewhere(&self, device: DeviceKey, task: TaskId) {
        let mut state = self.state();
        let Some(listener) = state.listening.get_mut(&device) else { return };
        listener.forget(task);
    }

    /// A device no longer listens.
    pub fn gone(&self, device: DeviceKey) {
        let mut state = self.state();
        state.listening.remove(&device);
        state.missed.remove(&device);
    }

    /// Tasks of a device have become open again: it took them and gave no sign
    /// of life. Which of them come first, a look-up tells.
    pub fn reopened(&self, device: DeviceKey) {
        let mut state = self.state();
        let Some(listener) = state.listening.get_mut(&device) else { return };
        listener.backlog = true;
        listener.has_missed |= listener.is_looking;
        if !listener.is_looking {
            state.make_due(device);
        }
    }

    /// A task was created.
    pub fn opened(&self, task: &Announcement) -> Opened {
        let mut state = self.state();
        let Some(listener) = state.listening.get_mut(&task.device) else {
            // What does not fit waits for the next look at all that listen.
            if state.missed.len() < MISSED_MAX {
                state.missed.insert(task.device);
            }
            return Opened::Elsewhere;
        };
        if listener.window.contains(&task.id) {
            return Opened::Wait;
        }
        let has_room = listener.window.len() < self.announcements_max as usize;
        if has_room && !listener.backlog {
            listener.window.push(task.id);
            return Opened::Announce(listener.link);
        }
        listener.backlog = true;
        listener.has_missed |= listener.is_looking;
        if has_room && !listener.is_looking {
            state.make_due(task.device);
        }
        Opened::Wait
    }

    /// A task was taken or became final: there may be room for the next.
    /// Answers through which link its device listens, if it does.
    pub fn answered(&self, device: DeviceKey, task: TaskId) -> Option<LinkPlace> {
        let mut state = self.state();
        let listener = state.listening.get_mut(&device)?;
        let link = listener.link;
        let before = listener.window.len();
        listener.forget(task);
        if listener.backlog && listener.window.len() < before {
            state.make_due(device);
        }
        Some(link)
    }

    /// A device has asked for a task and could not be answered: it is to be
    /// announced again when there is a look at what was never announced.
    pub fn unanswered(&self, device: DeviceKey, task: TaskId) {
        let mut state = self.state();
        let Some(listener) = state.listening.get_mut(&device) else { return };
        listener.forget(task);
        listener.backlog = true;
    }

    /// Waits until devices have room for announcements and may have tasks, and
    /// answers which, each with how many tasks to look for: [`LOOKS_MAX`] at most, those that wait longest.
    pub async fn due(&self) -> Vec<(DeviceKey, u32)> {
        poll_fn(|context| {
            let mut state = self.state();
            if state.due.is_empty() {
                state.waker = Some(context.waker().clone());
                return Poll::Pending;
            }
            let mut wanted = Vec::new();
            while wanted.len() < LOOKS_MAX
                && let Some(device) = state.due.pop_front()
            {
                if let Some(listener) = state.listening.get_mut(&device) {
                    listener.is_due = false;
                    listener.is_looking = true;
                    // Until it is known, so that what opens now waits its turn.
                    listener.backlog = true;
                    listener.has_missed = false;
                    listener.answered.clear();
                    wanted.push((device, self.announcements_max.saturating_mul(2).saturating_add(1)));
                }
            }
            Poll::Ready(wanted)
        })
        .await
    }

    /// Takes what a look-up for `wanted` tasks found, in selection order;
    /// answers which of them to announce now, each with its link.
    pub fn refill(
        &self,
        device: DeviceKey,
        wanted: u32,
        found: Vec<Announcement>,
    ) -> Vec<(LinkPlace, Announcement)> {
        let mut state = self.state();
        let Some(listener) = state.listening.get_mut(&device) else { return Vec::new() };
        // The look-up was made for an earlier connection: this one's own is due.
        if !std::mem::take(&mut listener.is_looking) {
            return Vec::new();
        }
        let is_all = found.len() < wanted as usize;
        if is_all {
            // What was announced and is no longer open holds no place.
            listener.window.retain(|announced| found.iter().any(|task| task.id == *announced));
        }
        listener.backlog = !is_all || listener.has_missed;
        let mut now = Vec::new();
        for task in found {
            if listener.window.contains(&task.id) || listener.answered.contains(&task.id) {
                continue;
            }
            if listener.window.len() >= self.announcements_max as usize {
                listener.backlog = true;
                break;
            }
            listener.window.push(task.id);
            now.push((listener.link, task));
        }
        if listener.backlog && listener.window.len() < self.announcements_max as usize {
            state.make_due(device);
        }
        now
    }

    /// A look-up failed; it is to be made again.
    pub fn retry(&self, device: DeviceKey) {
        let mut state = self.state();
        if let Some(listener) = state.listening.get_mut(&device) {
            listener.backlog = true;
        }
        state.make_due(device);
    }

    /// The devices that listen, in the order of their keys, those after `after`.
    #[must_use]
    pub fn listening_after(&self, after: DeviceKey, limit: usize) -> Vec<DeviceKey> {
        let mut devices: Vec<_> =
            self.state().listening.keys().copied().filter(|device| *device > after).collect();
        devices.sort_unstable();
        devices.truncate(limit);
        devices
    }

    /// Through which link a device listens, if it does.
    #[must_use]
    pub fn link(&self, device: DeviceKey) -> Option<LinkPlace> {
        self.state().listening.get(&device).map(|listener| listener.link)
    }

    /// How many devices listen.
    #[must_use]
    pub fn listening(&self) -> usize {
        self.state().listening.len()
    }
}
