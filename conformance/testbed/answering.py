"""A device that runs each announced task as soon as it hears of it."""

import threading
import time


class Answering(threading.Thread):
    """Runs each announced task of a device at once, or after a delay."""

    def __init__(self, device, delay: float = 0.0, status_code: int = 200):
        super().__init__(daemon=True)
        self.device, self.delay, self.status_code = device, delay, status_code
        self.start()

    def run(self) -> None:
        while True:
            try:
                task_id = self.device.expect("tsk", seconds=30).task_id
                taken = self.device.take(task_id)
                time.sleep(self.delay)
                self.device.finish(task_id, self.status_code, taken.body)
            except AssertionError:
                return  # the test has ended, and with it the connection
