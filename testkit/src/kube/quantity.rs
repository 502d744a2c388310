//! Quantities such as `500m`, `16Mi` and `1e3`.

/// The suffixes and their factors.
const SUFFIXES: [(&str, f64); 15] = [
    ("Ki", 1_024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("Ei", 1_152_921_504_606_846_976.0),
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
];

/// The number that a quantity stands for; `None` if it is not a quantity.
pub(super) fn parse(quantity: &str) -> Option<f64> {
    if let Ok(number) = quantity.parse::<f64>() {
        return number.is_finite().then_some(number);
    }
    SUFFIXES.iter().find_map(|(suffix, factor)| {
        let number = quantity.strip_suffix(suffix)?.parse::<f64>().ok()?;
        Some(number * factor)
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn quantities_are_numbers_with_suffixes() {
        assert_eq!(parse("500m"), Some(0.5));
        assert_eq!(parse("16Mi"), Some(16_777_216.0));
        assert_eq!(parse("2Ei"), Some(2_305_843_009_213_693_952.0));
        assert_eq!(parse("1e3"), Some(1_000.0));
        assert_eq!(parse("ten"), None);
        assert_eq!(parse(""), None);
    }
}
