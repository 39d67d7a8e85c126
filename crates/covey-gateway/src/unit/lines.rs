//! Lines of a unit, which end with `\n`, `\r` or both.

/// Longest line of a unit, in bytes.
/// Limit for each line: it is left out.
const LINE_BYTES_MAX: usize = 1_024;

/// A line, or why it is left out.
pub(super) type Line = Result<String, &'static str>;

/// What was read of a line so far.
#[derive(Default)]
pub(super) struct Lines {
    begun: Vec<u8>,
    is_too_long: bool,
}

impl Lines {
    /// Takes what was read; answers the lines that are whole now. Empty ones are none.
    pub(super) fn take(&mut self, read: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        for byte in read {
            if !matches!(byte, b'\r' | b'\n') {
                if self.begun.len() >= LINE_BYTES_MAX {
                    self.is_too_long = true;
                } else {
                    self.begun.push(*byte);
                }
                continue;
            }
            let line = std::mem::take(&mut self.begun);
            if std::mem::take(&mut self.is_too_long) {
                lines.push(Err("it has more than 1024 bytes"));
            } else if !line.is_empty() {
                lines.push(String::from_utf8(line).map_err(|_| "it is not UTF-8"));
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_that_is_too_long_or_no_text_is_left_out_and_the_next_is_heard() {
        let mut lines = Lines::default();
        let long = [vec![b'7'; LINE_BYTES_MAX + 1], b"\n8\n\xff\n9\r\n".to_vec()].concat();
        let heard = lines.take(&long);
        assert!(heard[0].is_err() && heard[2].is_err());
        assert_eq!((&heard[1], &heard[3]), (&Ok("8".to_owned()), &Ok("9".to_owned())));
        assert_eq!(heard.len(), 4);
    }

    proptest! {
        /// However the network cuts what a unit says, its lines are the same.
        #[test]
        fn lines_do_not_depend_on_how_they_arrive(
            said in proptest::collection::vec(("[0-9]{1,8}", 0..3_usize), 0..20),
            cuts in proptest::collection::vec(1..7_usize, 1..50),
        ) {
            let text: String =
                said.iter().map(|(line, end)| format!("{line}{}", ["\n", "\r", "\r\n"][*end])).collect();
            let (mut lines, mut heard, mut rest) = (Lines::default(), Vec::new(), text.as_bytes());
            for cut in cuts.into_iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (next, later) = rest.split_at(cut.min(rest.len()));
                heard.extend(lines.take(next));
                rest = later;
            }
            let expected: Vec<_> = said.into_iter().map(|(line, _)| Ok(line)).collect();
            prop_assert_eq!(heard, expected);
        }
    }
}
