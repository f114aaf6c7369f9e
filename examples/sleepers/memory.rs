//! What the kernel counts as this process's memory.

use std::fs;
use std::ops::Sub;

use crate::Failure;

/// Figures of `/proc/self/status`, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Pages that are in memory: `VmRSS`.
    pub rss: u64,
    /// Tables that map them: `VmPTE`.
    pub pte: u64,
    /// Address space, most of it never touched: `VmSize`.
    pub reserved: u64,
}

impl Memory {
    pub fn now() -> Result<Self, Failure> {
        let file = "/proc/self/status";
        let text = fs::read_to_string(file).map_err(|e| Failure::Run(format!("{file}: {e}")))?;
        let bytes = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
            kib.map(|n| n * 1024)
                .ok_or_else(|| Failure::Run(format!("{file} has no {key}")))
        };
        Ok(Self {
            rss: bytes("VmRSS:")?,
            pte: bytes("VmPTE:")?,
            reserved: bytes("VmSize:")?,
        })
    }
}

impl Sub for Memory {
    type Output = Self;

    /// What came since `base`; nothing where there is less than there was.
    fn sub(self, base: Self) -> Self {
        Self {
            rss: self.rss.saturating_sub(base.rss),
            pte: self.pte.saturating_sub(base.pte),
            reserved: self.reserved.saturating_sub(base.reserved),
        }
    }
}
