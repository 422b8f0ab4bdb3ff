//! What is counted, on both sides.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use evloop::Address;
use evloop::testing::Tally as Simulated;

/// Shared by the server's thread and the clients'.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) plain: Count,
    pub(crate) encrypted: Count,
    /// Questions that were answered.
    pub(crate) operations: Count,
    /// Bytes that were compared.
    pub(crate) bytes: Count,
    pub(crate) mismatches: Count,
    pub(crate) hangs: Count,
    /// What the simulated worlds have seen.
    simulated: Mutex<Simulated>,
    faults: [Count; FAULTS.len()],
    /// Clients that are going to be slow, by their addresses.
    slow: Mutex<BTreeSet<String>>,
    /// What nobody has asked for, and how often.
    pub(crate) surprises: Mutex<BTreeMap<String, u64>>,
}

#[derive(Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What was done to the connections. Each counts only when one side has seen its effect.
#[derive(Clone, Copy)]
pub(crate) enum Fault {
    HalfClose,
    Reset,
    SlowReader,
    ReadGivenUp,
    SlowHandshake,
    SilentHandshake,
    Garbage,
    CutOff,
    NoAccept,
    NoConnect,
    Signal,
}

/// Their names, and who has seen what.
const FAULTS: [(&str, &str); 11] = [
    ("half-close", "the client, by the answer behind its own end"),
    ("reset", "the server, by an error"),
    ("slow reader", "the server, by a drain that had to wait"),
    ("read given up", "the client, by the end of its time"),
    ("slow handshake", "the client, by the echo behind it"),
    ("silent handshake", "the client, by the server's patience"),
    ("garbage for a handshake", "the client, by the refusal"),
    ("TLS cut off", "the server, by the missing goodbye"),
    ("accept without a descriptor", "the server, by its report"),
    ("connect without a descriptor", "the client, by its error"),
    ("signal", "the server's loop, by its handler"),
];

impl Tally {
    pub(crate) fn fault(&self, fault: Fault) {
        self.faults[fault as usize].add(1);
    }

    pub(crate) fn seen(&self, fault: Fault) -> u64 {
        self.faults[fault as usize].get()
    }

    /// The client of this address is going to be slow.
    pub(crate) fn will_be_slow(&self, client: &Address) {
        let mut slow = self.slow.lock().expect("nobody panics with it");
        slow.insert(client.to_string());
    }

    /// The server had to wait for this client: that counts once, if the client was to be slow.
    pub(crate) fn had_to_wait_for(&self, client: Option<&Address>) {
        let mut slow = self.slow.lock().expect("nobody panics with it");
        if client.is_some_and(|client| slow.remove(&client.to_string())) {
            self.fault(Fault::SlowReader);
        }
    }

    /// Something that nothing explains: bytes that are missing, or an error that nobody caused.
    pub(crate) fn wrong(&self, what: String) {
        self.mismatches.add(1);
        self.surprise(what);
    }

    pub(crate) fn surprise(&self, what: String) {
        let mut surprises = self.surprises.lock().expect("nobody panics with it");
        *surprises.entry(what).or_default() += 1;
    }

    pub(crate) fn connections(&self) -> u64 {
        self.plain.get() + self.encrypted.get() + self.simulated().connections
    }

    pub(crate) fn all_faults(&self) -> u64 {
        self.faults.iter().map(Count::get).sum::<u64>() + self.simulated().faults()
    }

    pub(crate) fn add_simulated(&self, storm: Simulated) {
        *self.simulated.lock().expect("nobody panics with it") += storm;
    }

    fn simulated(&self) -> Simulated {
        *self.simulated.lock().expect("nobody panics with it")
    }

    /// What should have happened and has not.
    pub(crate) fn missing(&self) -> Vec<String> {
        let rows = self.rows().into_iter();
        let missing = rows.filter(|(_, count)| *count == 0);
        missing.map(|(name, _)| name).collect()
    }

    /// The table, in Markdown.
    pub(crate) fn table(&self, before: &Usage, after: &Usage) -> String {
        let mut rows = self.rows();
        rows.extend([
            ("descriptors before".to_owned(), before.descriptors),
            ("descriptors after".to_owned(), after.descriptors),
            ("memory before, KiB".to_owned(), before.memory),
            ("memory after, KiB".to_owned(), after.memory),
        ]);
        let rows = rows.iter().map(|(name, n)| format!("| {name} | {n} |\n"));
        format!(
            "| what | how many |\n|---|---|\n{}",
            rows.collect::<String>()
        )
    }

    /// What happens all the time in a soak that does what it says.
    fn rows(&self) -> Vec<(String, u64)> {
        let mut rows = vec![
            ("connections, plain".to_owned(), self.plain.get()),
            ("connections, TLS".to_owned(), self.encrypted.get()),
            (
                "connections, simulated".to_owned(),
                self.simulated().connections,
            ),
            ("operations".to_owned(), self.operations.get()),
            ("bytes verified".to_owned(), self.bytes.get()),
        ];
        for ((name, seen_by), count) in FAULTS.iter().zip(&self.faults) {
            rows.push((format!("fault: {name}, seen by {seen_by}"), count.get()));
        }
        let simulated = self.simulated();
        for (name, count) in [
            ("fault: short read", simulated.short_reads),
            ("fault: short write", simulated.short_writes),
            ("fault: reset", simulated.resets),
            ("fault: end that nobody sent", simulated.early_ends),
            ("fault: refusal", simulated.refusals),
            ("fault: silence", simulated.timeouts),
            ("fault: accept that failed", simulated.accept_failures),
            // Of these nobody is told.
            ("besides: event without a reason", simulated.spurious_events),
            (
                "besides: packet held by a partition",
                simulated.held_packets,
            ),
            ("besides: clock that jumped", simulated.clock_jumps),
        ] {
            rows.push((format!("simulated {name}"), count));
        }
        rows
    }
}

/// What the process has.
pub(crate) struct Usage {
    pub(crate) descriptors: u64,
    /// Resident, in KiB; 0 where the system does not say.
    memory: u64,
}

impl Usage {
    pub(crate) fn now() -> io::Result<Self> {
        let mut descriptors = 0;
        for descriptor in fs::read_dir("/dev/fd")? {
            descriptor?;
            descriptors += 1;
        }
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let memory = memory.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        Ok(Self {
            descriptors,
            memory: memory.unwrap_or(0),
        })
    }
}
