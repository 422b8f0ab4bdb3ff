//! What the name of a cell says: `c10-64-p16` is 10 connections, 64 bytes, 16 in flight.

/// The transport of a cell whose name has none.
pub const TCP: &str = "tcp";

/// A cell, read from its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellName {
    pub name: String,
    pub kind: Kind,
    /// `tcp` unless the name begins with another one; as the tables show it.
    pub transport: &'static str,
    pub connections: Option<u64>,
    pub bytes: Option<u64>,
}

/// The groups in which cells are shown and averaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    RequestResponse,
    Pipelined,
    Lines,
    Bulk,
    Churn,
    Other,
}

impl Kind {
    pub const ALL: [Self; 6] = [
        Self::RequestResponse,
        Self::Pipelined,
        Self::Lines,
        Self::Bulk,
        Self::Churn,
        Self::Other,
    ];

    pub fn title(self) -> &'static str {
        match self {
            Self::RequestResponse => "request-response",
            Self::Pipelined => "pipelined",
            Self::Lines => "lines",
            Self::Bulk => "bulk",
            Self::Churn => "churn",
            Self::Other => "other",
        }
    }

    /// What one operation is.
    pub fn operation(self) -> &'static str {
        match self {
            Self::RequestResponse | Self::Pipelined => "echo",
            Self::Lines => "line",
            Self::Bulk => "MiB",
            Self::Churn => "connection",
            Self::Other => "operation",
        }
    }
}

impl CellName {
    pub fn parse(name: &str) -> Self {
        let mut cell = Self {
            name: name.to_owned(),
            kind: Kind::RequestResponse,
            transport: TCP,
            connections: None,
            bytes: None,
        };
        let mut depth = 1;
        for word in name.split('-') {
            match word {
                TCP | "echo" => {}
                "unix" => cell.transport = "unix sockets",
                "tls" => cell.transport = "tls",
                "lines" => cell.kind = Kind::Lines,
                "bulkecho" | "upload" | "download" => cell.kind = Kind::Bulk,
                "churn" | "resumed" => cell.kind = Kind::Churn,
                _ => {
                    if let Some(connections) = number_after('c', word) {
                        cell.connections = Some(connections);
                    } else if let Some(in_flight) = number_after('p', word) {
                        depth = in_flight;
                    } else if let Some(bytes) = bytes(word) {
                        cell.bytes = Some(bytes);
                    } else if cell.kind == Kind::RequestResponse {
                        cell.kind = Kind::Other;
                    }
                }
            }
        }
        if cell.kind == Kind::RequestResponse && depth > 1 {
            cell.kind = Kind::Pipelined;
        }
        cell
    }

    /// Whether it is an echo over TCP with one message in flight: what most figures are about.
    pub fn is_request_response(&self) -> bool {
        self.kind == Kind::RequestResponse && self.transport == TCP
    }
}

fn number_after(letter: char, word: &str) -> Option<u64> {
    word.strip_prefix(letter)?.parse().ok()
}

/// `64`, `1K`, `1M`.
fn bytes(word: &str) -> Option<u64> {
    let (digits, unit) = match word.strip_suffix(['K', 'M']) {
        Some(digits) if word.ends_with('K') => (digits, 1 << 10),
        Some(digits) => (digits, 1 << 20),
        None => (word, 1),
    };
    Some(digits.parse::<u64>().ok()? * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_the_cell_is() {
        let cell = CellName::parse("c100-1K");
        assert_eq!(
            (cell.kind, cell.connections, cell.bytes),
            (Kind::RequestResponse, Some(100), Some(1024))
        );
        let kinds = [
            ("c10-64-p16", Kind::Pipelined),
            ("c10-64-p1", Kind::RequestResponse),
            ("lines-c10", Kind::Lines),
            ("upload-c1", Kind::Bulk),
            ("bulkecho-c1", Kind::Bulk),
            ("churn", Kind::Churn),
            ("handshake-c1", Kind::Other),
        ];
        for (name, kind) in kinds {
            assert_eq!(CellName::parse(name).kind, kind, "{name}");
        }
    }

    #[test]
    fn another_transport_is_another_matter() {
        let cell = CellName::parse("unix-c10-1K");
        assert_eq!(
            (cell.transport, cell.kind),
            ("unix sockets", Kind::RequestResponse)
        );
        assert!(!cell.is_request_response());
    }
}
