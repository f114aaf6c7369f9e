//! The two small languages inside the attributes' strings: sizes ("64K") and durations ("200ms").
//!
//! Plain functions over text: `proc_macro` types do not work in unit tests.

use std::time::Duration;

/// Reads a size in bytes: a whole number, then nothing or one of `K`, `M`, `G` (powers of 1024).
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text).ok_or_else(|| size_error(text))?;
    let factor: u64 = match unit {
        "" | "B" => 1,
        "K" | "k" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        _ => return Err(size_error(text)),
    };
    number.checked_mul(factor).ok_or_else(|| size_error(text))
}

/// Reads a duration: a whole number, then `us`, `ms`, `s`, `m` or `h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text).ok_or_else(|| duration_error(text))?;
    let micros: u64 = match unit {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        _ => return Err(duration_error(text)),
    };
    let total = number
        .checked_mul(micros)
        .ok_or_else(|| duration_error(text))?;
    Ok(Duration::from_micros(total))
}

/// Reads a Rust integer literal in decimal, with underscores and a type suffix if it has them.
pub(crate) fn integer(text: &str) -> Result<u64, String> {
    let error = || format!("expected a whole decimal number, found `{text}`");
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '_')
        .unwrap_or(text.len());
    let (digits, suffix) = text.split_at(end);
    let typed = [
        "", "u8", "u16", "u32", "u64", "usize", "i8", "i16", "i32", "i64", "isize",
    ];
    if !typed.contains(&suffix) {
        return Err(error());
    }
    digits.replace('_', "").parse().map_err(|_| error())
}

/// Splits leading digits from the unit that follows them, if any.
fn split(text: &str) -> Option<(u64, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    Some((digits.parse().ok()?, unit.trim_start()))
}

fn size_error(text: &str) -> String {
    format!(
        "`{text}` is not a size: write a whole number of bytes, or one with K, M or G (\"64K\")"
    )
}

fn duration_error(text: &str) -> String {
    format!("`{text}` is not a duration: write a whole number with us, ms, s, m or h (\"200ms\")")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("65536"), Ok(65_536));
        assert_eq!(size("64K"), Ok(65_536));
        assert_eq!(size("64 KiB"), Ok(65_536));
        assert_eq!(size("1M"), Ok(1 << 20));
        assert_eq!(size("2G"), Ok(2 << 30));
        assert_eq!(size("0"), Ok(0));
    }

    #[test]
    fn refused_sizes() {
        for text in [
            "",
            "K",
            "64 K B",
            "-1",
            "1.5M",
            "64T",
            "99999999999999999999",
            "18446744073709551615K",
        ] {
            assert!(
                size(text).is_err_and(|e| e.contains(&format!("`{text}`"))),
                "{text}"
            );
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("5us"), Ok(Duration::from_micros(5)));
        assert_eq!(duration("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("1 h"), Ok(Duration::from_secs(3600)));
    }

    #[test]
    fn refused_durations() {
        for text in [
            "",
            "s",
            "30",
            "1.5s",
            "-2s",
            "2min",
            "3 days",
            "18446744073709551615h",
        ] {
            assert!(
                duration(text).is_err_and(|e| e.contains(&format!("`{text}`"))),
                "{text}"
            );
        }
    }

    #[test]
    fn integers() {
        assert_eq!(integer("65_536"), Ok(65_536));
        assert_eq!(integer("4usize"), Ok(4));
        assert!(integer("0x10").is_err());
        assert!(integer("1.0").is_err());
        assert!(integer("_").is_err());
        assert!(integer("\"4\"").is_err());
    }
}
