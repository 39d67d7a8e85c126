//! The wills of a device, and which of them must have been published at the end (MQTT 5 §3.1.2.5).

use std::time::Duration;

use tokio::time::Instant;

/// How long it takes at most until what was said on one side is known on the other, and stored.
const UNTIL_STORED: Duration = Duration::from_secs(20);
/// How much earlier or later than the device the server may take a connection for ended, where both learn of it.
const MARGIN: Duration = Duration::from_secs(4);

/// The connection of a device after another.
#[derive(Clone, Copy, Debug)]
pub struct Next {
    dialed_at: Instant,
    is_clean: bool,
    /// When its CONNACK came, and whether that said Session Present.
    up: Option<(Instant, bool)>,
}

/// A will as it went out in a CONNECT.
#[derive(Clone, Debug)]
pub struct Will {
    /// The number of its connection among those of its device.
    pub number: u64,
    /// After how long without a connection it is due: the smaller of its delay and the session's life.
    delay: Duration,
    keep_alive: Duration,
    /// When the CONNECT went out.
    begun_at: Instant,
    /// When the CONNACK came, if it did.
    up_at: Option<Instant>,
    /// When the server was heard of last.
    heard_at: Instant,
    /// When the device ended the connection, and whether the server learned of it at once.
    ended: Option<(Instant, bool)>,
    said_goodbye: bool,
    next: Option<Next>,
}

impl Will {
    /// One of a CONNECT that goes out now.
    pub fn new(number: u64, delay_s: u64, keep_alive_s: u16) -> Self {
        Self {
            number,
            delay: Duration::from_secs(delay_s),
            keep_alive: Duration::from_secs(keep_alive_s.into()),
            begun_at: Instant::now(),
            up_at: None,
            heard_at: Instant::now(),
            ended: None,
            said_goodbye: false,
            next: None,
        }
    }

    /// Something was heard of the server.
    pub fn heard(&mut self) {
        self.heard_at = Instant::now();
        self.up_at.get_or_insert(self.heard_at);
    }

    /// The device has ended the connection.
    pub fn ended(&mut self, is_noticed: bool, said_goodbye: bool) {
        self.ended = Some((Instant::now(), is_noticed));
        self.said_goodbye = said_goodbye;
    }

    /// The device dials once more.
    pub fn next(&mut self, is_clean: bool) {
        if self.next.is_none() {
            self.next = Some(Next { dialed_at: Instant::now(), is_clean, up: None });
        }
    }

    /// The CONNACK of the connection with this number has come.
    pub fn next_up(&mut self, number: u64, is_present: bool) {
        if number == self.number + 1
            && let Some(next) = &mut self.next
        {
            next.up = Some((Instant::now(), is_present));
        }
    }

    /// Whether it must, or must not, have been published; none if nobody can tell. Servers were killed at `kills`.
    #[must_use]
    pub fn must_be_published(&self, kills: &[Instant]) -> Option<bool> {
        let (_, (ended_at, is_noticed)) = (self.up_at?, self.ended?);
        // From the CONNECT on: a CONNACK may come after the end of who has sent it.
        let survived =
            |until: Instant| !kills.iter().any(|kill| (self.begun_at..=until + UNTIL_STORED).contains(kill));
        if self.said_goodbye {
            // The next connection may be faster than it, or a server may be killed before.
            let was_first = self.next.is_none_or(|next| next.dialed_at > ended_at + MARGIN);
            return (was_first && survived(ended_at)).then_some(false);
        }
        let up = self.next.and_then(|Next { is_clean, up, .. }| up.map(|(at, _)| (at, is_clean)));
        if let Some(Next { is_clean: false, up: Some((at, true)), .. }) = self.next
            && at + MARGIN < self.heard_at + self.delay
        {
            return Some(false);
        }
        // When the server has ended the connection at the latest.
        let noticed = if is_noticed { MARGIN } else { self.keep_alive.mul_f64(1.5) + MARGIN };
        let lost_at = ended_at + noticed;
        let due_at = match (self.next, up) {
            // Another connection has taken its place, and waits for no delay, or has ended the session.
            (_, Some((at, is_clean))) if is_clean || self.delay.is_zero() => at.min(lost_at + self.delay),
            (None, _) => lost_at + self.delay,
            (Some(next), _) if next.dialed_at > lost_at + self.delay || self.delay.is_zero() => {
                lost_at + self.delay
            }
            _ => return None,
        };
        let is_over = due_at + UNTIL_STORED < Instant::now();
        (is_over && survived(due_at)).then_some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn pass(seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    fn up(number: u64, delay_s: u64) -> Will {
        let mut will = Will::new(number, delay_s, 10);
        will.heard();
        will
    }

    #[tokio::test(start_paused = true)]
    async fn a_will_without_delay_is_due_with_the_loss_and_one_with_a_goodbye_never() {
        let mut lost = up(1, 0);
        let mut left = up(1, 0);
        lost.ended(true, false);
        left.ended(true, true);
        assert_eq!(lost.must_be_published(&[]), None, "nobody can tell yet");
        pass(60).await;
        assert_eq!(lost.must_be_published(&[]), Some(true));
        assert_eq!(left.must_be_published(&[]), Some(false));
        let killed = Instant::now() - Duration::from_secs(50);
        assert_eq!(
            lost.must_be_published(&[killed]),
            None,
            "a server that is killed may not have published it"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_back_in_time_has_no_will_unless_the_session_is_a_new_one() {
        for (is_clean, wanted) in [(false, Some(false)), (true, Some(true))] {
            let mut will = up(1, 30);
            will.ended(true, false);
            pass(5).await;
            will.next(is_clean);
            will.next_up(2, !is_clean);
            pass(100).await;
            assert_eq!(will.must_be_published(&[]), wanted, "clean start {is_clean}");
        }
        let mut late = up(1, 30);
        late.ended(true, false);
        pass(40).await;
        late.next(false);
        late.next_up(2, true);
        pass(100).await;
        assert_eq!(late.must_be_published(&[]), Some(true));
    }
}
