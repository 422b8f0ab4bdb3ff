//! What the client sends: bytes that differ from connection to connection, so that an answer that
//! reached the wrong one, or came in the wrong order, is noticed.

use crate::cells::{LINE, LINES};

/// One stretch of bytes; each connection's message begins at another place of it.
pub struct Pattern {
    bytes: Vec<u8>,
    /// Bytes after which a connection's message repeats.
    period: usize,
    /// Distance between two connections' beginnings.
    step: usize,
}

/// How many different messages there are.
const VARIANTS: usize = 61;

impl Pattern {
    /// Messages of `period` bytes without a meaning.
    pub fn plain(period: usize) -> Self {
        Self::with_step(period, 17)
    }

    /// Messages of [`LINES`] lines.
    pub fn lines() -> Self {
        let mut pattern = Self::with_step(LINES * LINE, LINE);
        for line in pattern.bytes.chunks_exact_mut(LINE) {
            line[LINE - 1] = b'\n';
        }
        pattern
    }

    fn with_step(period: usize, step: usize) -> Self {
        // Marsaglia's xorshift: no two stretches of it look alike.
        let mut state = 0x2545_F491_4F6C_DD1D_u64;
        let letters = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            b'a' + (state >> 32) as u8 % 26
        });
        let length = (period + VARIANTS * step).next_multiple_of(LINE);
        Self {
            bytes: letters.take(length).collect(),
            period,
            step,
        }
    }

    /// What `connection` sends from `position` of its message on, as far as it lies in one piece.
    pub fn piece(&self, connection: usize, position: usize) -> &[u8] {
        let begin = connection % VARIANTS * self.step;
        &self.bytes[begin + position % self.period..begin + self.period]
    }

    /// Whether `data` is what `connection` sent at `position`.
    pub fn matches(&self, connection: usize, mut position: usize, mut data: &[u8]) -> bool {
        while !data.is_empty() {
            let piece = self.piece(connection, position);
            let length = piece.len().min(data.len());
            if piece[..length] != data[..length] {
                return false;
            }
            data = &data[length..];
            position += length;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_knows_its_own_bytes_only() {
        let pattern = Pattern::plain(64);
        let own = pattern.piece(3, 0).to_vec();
        assert!(pattern.matches(3, 0, &own));
        assert!(pattern.matches(3, 64, &own));
        assert!(!pattern.matches(4, 0, &own));
        assert!(!pattern.matches(3, 1, &own));
    }

    #[test]
    fn lines_end_where_lines_end() {
        let pattern = Pattern::lines();
        for connection in 0..100 {
            let lines = pattern.piece(connection, 0);
            assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), LINES);
            assert_eq!(lines.last(), Some(&b'\n'));
        }
    }
}
