//! When an image was taken, by its EXIF data.

use std::io::Cursor;

/// Seconds since 1970 by the camera's clock. The time zone is unknown, so only differences are
/// meaningful. `None` if the file does not say; the time of a later edit is ignored.
pub fn taken(bytes: &[u8]) -> Option<i64> {
    let exif = exif::Reader::new().read_from_container(&mut Cursor::new(bytes)).ok()?;
    let field = exif.get_field(exif::Tag::DateTimeOriginal, exif::In::PRIMARY)?;
    let exif::Value::Ascii(texts) = &field.value else { return None };
    let at = exif::DateTime::from_ascii(texts.first()?).ok()?;
    let plausible = at.year > 0 && (1..=12).contains(&at.month) && at.day > 0;
    let seconds = (i64::from(at.hour) * 60 + i64::from(at.minute)) * 60 + i64::from(at.second);
    plausible.then(|| days(at.year.into(), at.month.into(), at.day.into()) * 86400 + seconds)
}

/// Days since 1970-01-01 (Gregorian; Hinnant, "chrono-compatible low-level date algorithms").
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    #[test]
    fn days_are_those_of_the_calendar() {
        for ((year, month, day), n) in
            [((1970, 1, 1), 0), ((2000, 3, 1), 11_017), ((2024, 2, 29), 19_782), ((1969, 12, 31), -1)]
        {
            assert_eq!(super::days(year, month, day), n, "{year}-{month}-{day}");
        }
    }
}
