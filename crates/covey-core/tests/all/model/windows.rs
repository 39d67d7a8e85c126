//! What a device has been told of and has not answered, and what must hold of
//! it (device-rpc "device connects and subscribes").

use covey_core::id::TaskId;

use super::contract::{EXPIRED, Model, ModelTask};

#[derive(Default)]
struct Window {
    unanswered: Vec<TaskId>,
}

pub struct Windows {
    announcements_max: usize,
    listening: Vec<Option<Window>>,
    /// The instant of the last sweep: what happened by time alone since then
    /// need not be known yet.
    swept_at: i64,
}

impl Windows {
    pub fn new(announcements_max: u32) -> Self {
        let listening = (0..super::DEVICES).map(|_| None).collect();
        Self { announcements_max: announcements_max as usize, listening, swept_at: 0 }
    }

    pub fn listen(&mut self, device: usize) {
        self.listening[device] = Some(Window::default());
    }

    pub fn gone(&mut self, device: usize) {
        self.listening[device] = None;
    }

    /// A task was taken, was asked for in vain, or became final.
    pub fn answered(&mut self, device: usize, id: TaskId) {
        if let Some(window) = &mut self.listening[device] {
            window.unanswered.retain(|announced| *announced != id);
        }
    }

    pub fn swept(&mut self, model: &Model) {
        self.swept_at = model.now;
    }

    /// Takes what was announced in a step and compares it with what may and
    /// must be.
    pub fn check(&mut self, announced: &[TaskId], model: &Model) {
        for id in announced {
            let task = model.tasks.iter().find(|task| task.id == *id).unwrap();
            assert!(task.is_announceable(model.now), "announced and not open: {task:?}");
            let window = self.listening[task.device].as_mut().expect("announced to a device that is gone");
            assert!(!window.unanswered.contains(id), "announced twice: {task:?}");
            window.unanswered.push(*id);
        }
        for (device, window) in self.listening.iter_mut().enumerate() {
            let Some(window) = window else { continue };
            // A task whose time ran out waits for no answer.
            let is_open = |id: &TaskId| model.tasks.iter().any(|task| task.id == *id && !task.is_final());
            window.unanswered.retain(is_open);
            assert!(window.unanswered.len() <= self.announcements_max, "{:?}", window.unanswered);
            let open = model.tasks.iter().filter(|task| {
                task.device == device
                    && task.is_announceable(model.now)
                    && !window.unanswered.contains(&task.id)
            });
            // A lapse is known from the next sweep on.
            let is_known = |task: &&ModelTask| !task.is_lapsed(model.now) || task.is_lapsed(self.swept_at);
            let waiting = Model::order(open.filter(is_known));
            let Some(next) = waiting.first() else { continue };
            // Until then the place of a task whose time ran out is still held.
            let is_held = model.tasks.iter().any(|task| {
                task.device == device
                    && task.timeline.last().is_some_and(|(at, to)| *to == EXPIRED && *at > self.swept_at)
            });
            assert!(
                is_held || window.unanswered.len() == self.announcements_max,
                "room in {:?} and not announced: {next:?}",
                window.unanswered
            );
            for id in announced {
                let task = model.tasks.iter().find(|task| task.id == *id).unwrap();
                assert!(
                    task.device != device || Model::order([task, next].into_iter())[0].id == *id,
                    "announced {task:?} before {next:?}"
                );
            }
        }
    }
}
