//! Amounts as Kubernetes writes them (`500m`, `16Gi`, `1e3`), and as people read them.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Suffixes and their factors. Those with two letters come first.
const SUFFIXES: [(&str, f64); 15] = [
    ("Ki", 1024.0),
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
/// Units in which memory and disk are shown.
const BYTES: [(&str, f64); 5] = [
    ("TiB", 1_099_511_627_776.0),
    ("GiB", 1_073_741_824.0),
    ("MiB", 1_048_576.0),
    ("KiB", 1024.0),
    ("B", 1.0),
];

/// The number that an amount stands for; `None` if it is not an amount.
pub fn parse(text: &str) -> Option<f64> {
    let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
    number(text).or_else(|| {
        SUFFIXES.iter().find_map(|(suffix, factor)| Some(number(text.strip_suffix(suffix)?)? * factor))
    })
}

/// Amounts by resource name.
pub type Amounts = BTreeMap<String, Quantity>;

/// The amount of a resource; `None` if it is not listed.
pub fn amount(amounts: Option<&Amounts>, resource: &str) -> Option<f64> {
    parse(&amounts?.get(resource)?.0)
}

/// An amount of that resource, for people.
pub fn shown(resource: &str, amount: f64) -> String {
    let is_bytes = ["memory", "storage"].iter().any(|kind| resource.ends_with(kind));
    let (unit, factor) = match BYTES.iter().find(|(_, factor)| amount >= *factor) {
        Some((unit, factor)) if is_bytes => (format!(" {unit}"), *factor),
        None if is_bytes => (" B".to_owned(), 1.0),
        _ => (String::new(), 1.0),
    };
    // One decimal place, which is omitted if it is 0.
    let number = format!("{:.1}", amount / factor);
    format!("{}{unit}", number.strip_suffix(".0").unwrap_or(&number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_and_shown() {
        for (text, number) in [
            ("500m", Some(0.5)),
            ("16Mi", Some(16_777_216.0)),
            ("1e3", Some(1000.0)),
            ("12E6", Some(12e6)),
            ("2E", Some(2e18)),
            ("2Ei", Some(2_305_843_009_213_693_952.0)),
            ("7", Some(7.0)),
            ("", None),
            ("Gi", None),
            ("inf", None),
            ("ten", None),
        ] {
            assert_eq!(parse(text), number, "{text}");
        }
        for (resource, number, said) in [
            ("ephemeral-storage", 107_374_182_400.0, "100 GiB"),
            ("ephemeral-storage", 0.0, "0 B"),
            ("limits.memory", 1_610_612_736.0, "1.5 GiB"),
            ("requests.ephemeral-storage", 512.0, "512 B"),
            ("requests.cpu", 0.5, "0.5"),
            ("pods", 12.0, "12"),
        ] {
            assert_eq!(shown(resource, number), said);
        }
    }
}
