//! Wall-clock times in tags.
//!
//! Owns their text. Never decides by them alone: clocks of nodes differ.

/// Seconds since 1970 as RFC 3339, UTC (days to civil date after Howard Hinnant's `civil_from_days`).
pub(crate) fn rfc3339(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

/// The reverse, with any offset; `None` for anything else (civil date to days after `days_from_civil`).
pub(crate) fn seconds(text: &str) -> Option<u64> {
    let part = |range: std::ops::Range<usize>| text.get(range)?.parse::<u64>().ok();
    let fits = |at: usize, sign: &str| text.get(at..=at) == Some(sign);
    if !(fits(4, "-") && fits(7, "-") && fits(10, "T") && fits(13, ":") && fits(16, ":")) {
        return None;
    }
    let (year, month, day) = (part(0..4)?, part(5..7)?, part(8..10)?);
    let (hour, minute, second) = (part(11..13)?, part(14..16)?, part(17..19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || year < 1970 || hour > 23 || minute > 59 || second > 60
    {
        return None;
    }
    let zone = text.get(19..)?.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let offset = |sign: &str| {
        let (hours, minutes) = zone.strip_prefix(sign)?.split_once(':')?;
        let (hours, minutes) = (hours.parse::<u64>().ok()?, minutes.parse::<u64>().ok()?);
        (hours <= 23 && minutes <= 59).then(|| hours * 3600 + minutes * 60)
    };
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year / 400, year % 400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468;
    let local = days * 86_400 + hour * 3600 + minute * 60 + second;
    match (zone, offset("+"), offset("-")) {
        ("Z", ..) => Some(local),
        (_, Some(ahead), _) => local.checked_sub(ahead),
        (_, _, Some(behind)) => Some(local + behind),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn tags_are_read_as_they_are_written() {
        for at in [0, 951_868_799, 1_795_259_100] {
            assert_eq!(super::seconds(&super::rfc3339(at)), Some(at));
        }
        assert_eq!(super::seconds("2026-11-21T12:05:00+01:00"), Some(1_795_259_100));
        assert_eq!(super::seconds("2026-11-21T11:05:00.123Z"), Some(1_795_259_100));
        for wrong in [
            "",
            "yesterday",
            "2026-11-21",
            "2026-13-21T11:05:00Z",
            "2026-11-21T11:05:00",
            "2026-11-21T25:05:00Z",
            "2026-11-21T12:05:00-9999999999999999:00",
        ] {
            assert_eq!(super::seconds(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn wall_clocks_are_written_as_ec2_tags_have_them() {
        assert_eq!(super::rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(super::rfc3339(951_868_799), "2000-02-29T23:59:59Z");
        assert_eq!(super::rfc3339(1_795_259_100), "2026-11-21T11:05:00Z");
    }
}
