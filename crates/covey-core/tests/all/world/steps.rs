//! Steps in a transaction that no operation makes.

use std::sync::mpsc;

use covey_core::error::StorageFault;
use covey_core::port::{Job, Store, Transaction, Turn, TxResult};

use super::World;

type Step<T> = dyn Fn(&mut dyn Transaction) -> TxResult<T> + Send;

/// Steps in a transaction, and where their answer goes.
struct Steps<T> {
    steps: Box<Step<T>>,
    answer: Option<T>,
    reply: mpsc::Sender<Result<T, StorageFault>>,
}

impl<T: Send + 'static> Job for Steps<T> {
    fn turn(&self) -> Turn {
        Turn::Server
    }

    fn run(&mut self, tx: &mut dyn Transaction) -> Result<(), StorageFault> {
        self.answer = Some((self.steps)(tx)?);
        Ok(())
    }

    fn settle(self: Box<Self>, committed: Result<(), StorageFault>) {
        let Self { answer, reply, .. } = *self;
        reply.send(committed.map(|()| answer.unwrap())).unwrap();
    }
}

/// Runs steps in a transaction.
pub fn run<T: Send + 'static>(
    world: &World,
    steps: impl Fn(&mut dyn Transaction) -> TxResult<T> + Send + 'static,
) -> T {
    let (reply, answer) = mpsc::channel();
    world.store().submit(Box::new(Steps { steps: Box::new(steps), answer: None, reply })).unwrap();
    answer.recv().unwrap().unwrap()
}
