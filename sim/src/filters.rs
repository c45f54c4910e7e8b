//! Filters and paging of describe calls.

use crate::{
    faults::Fault,
    requests::{Describe, Filter, Tags},
    responses::Page,
};

/// Filter names are EC2's; an unknown one is refused even when nothing would be compared with it (field).
pub(crate) fn check(filters: &[Filter], known: &[&str]) -> Result<(), Fault> {
    let unknown = filters.iter().find(|filter| {
        let name = filter.name.as_str();
        !name.starts_with("tag:") && name != "tag-key" && !known.contains(&name)
    });
    unknown.map_or(Ok(()), |filter| Err(Fault::unknown_filter(&filter.name)))
}

/// Does a thing with these tags match all filters? `values` gives what it has under a filter's name.
pub(crate) fn matches(filters: &[Filter], tags: &Tags, values: impl Fn(&str) -> Vec<String>) -> bool {
    filters.iter().all(|filter| {
        let has = match filter.name.strip_prefix("tag:") {
            Some(key) => tags.get(key).cloned().into_iter().collect(),
            None if filter.name == "tag-key" => tags.keys().cloned().collect(),
            None => values(&filter.name),
        };
        has.iter().any(|value| filter.values.iter().any(|pattern| like(pattern, value)))
    })
}

/// `*` is any text, `?` any character (documentation).
fn like(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// The part of `items` that the call asks for. Items come with a serial number that only grows, so that a page goes on where
/// the last one ended whatever was made or deleted in between.
pub(crate) fn page<T>(describe: &Describe, most: u32, items: Vec<(u64, T)>) -> Result<Page<T>, Fault> {
    const LEAST: u32 = 5;
    let after = match &describe.next_token {
        None => None,
        Some(token) => Some(u64::from_str_radix(token, 16).map_err(|_| Fault::page_token())?),
    };
    let limit = match describe.max_results {
        None => usize::MAX,
        Some(max) if (LEAST..=most).contains(&max) => usize::try_from(max).expect("32 bits fit"),
        Some(max) => return Err(Fault::page_size(LEAST, most, max)),
    };
    let mut rest = items;
    rest.sort_by_key(|(serial, _)| *serial);
    rest.retain(|(serial, _)| after.is_none_or(|after| *serial > after));
    let more = rest.len() > limit;
    rest.truncate(limit);
    let next_token = if more { rest.last().map(|(serial, _)| format!("{serial:016x}")) } else { None };
    Ok(Page { items: rest.into_iter().map(|(_, item)| item).collect(), next_token })
}

#[cfg(test)]
mod tests {
    use super::like;

    #[test]
    fn wildcards_match_as_documented() {
        for (pattern, text) in
            [("", ""), ("*", ""), ("*", "abc"), ("a*c", "abbc"), ("a?c", "abc"), ("*b*", "abc"), ("a*b*c", "axbxbxc")]
        {
            assert!(like(pattern, text), "{pattern} should match {text}");
        }
        for (pattern, text) in [("", "a"), ("a", "ab"), ("a?c", "ac"), ("a*c", "ab"), ("?", ""), ("ab", "a")] {
            assert!(!like(pattern, text), "{pattern} should not match {text}");
        }
    }
}
