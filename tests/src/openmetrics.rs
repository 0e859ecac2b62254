//! A strict parser of OpenMetrics 1.0 text. It rejects everything it does not understand.

use std::collections::{BTreeMap, BTreeSet};

/// Families of one scrape, by name.
pub type Families = BTreeMap<String, Family>;

/// Metric family.
#[derive(Debug)]
pub struct Family {
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// Samples in order.
    pub samples: Vec<Sample>,
}

/// Sample of a [`Family`].
#[derive(Clone, Debug)]
pub struct Sample {
    /// Suffix of the family's name: `_total`, `_bucket`, ...
    pub suffix: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Value.
    pub value: f64,
}

/// Parses a scrape.
///
/// # Panics
/// The text is not valid OpenMetrics.
#[track_caller]
pub fn parse(text: &str) -> Families {
    let body = text.strip_suffix("# EOF\n").unwrap_or_else(|| panic!("no EOF marker: {text}"));
    let mut families = Families::new();
    let mut current = String::new();
    for line in body.lines() {
        read(line, &mut current, &mut families)
            .unwrap_or_else(|reason| panic!("{reason}: {line}\n{text}"));
    }
    for (name, family) in &families {
        family.check(name).unwrap_or_else(|reason| panic!("{name}: {reason}\n{text}"));
    }
    families
}

/// Sums all samples of a family that have these labels. Other labels are ignored.
#[must_use]
pub fn sum(families: &Families, name: &str, labels: &[(&str, &str)]) -> f64 {
    let samples = families.get(name).into_iter().flat_map(|family| &family.samples);
    let matches = |sample: &&Sample| {
        labels.iter().all(|(name, value)| sample.labels.get(*name).is_some_and(|one| one == value))
    };
    samples.filter(matches).map(|sample| sample.value).sum()
}

fn read(line: &str, current: &mut String, families: &mut Families) -> Result<(), String> {
    let Some(comment) = line.strip_prefix("# ") else {
        let (name, family) = families
            .iter_mut()
            .find(|(name, _)| *name == current)
            .ok_or("a sample without a type")?;
        family.samples.push(Sample::read(line, name)?);
        return Ok(());
    };
    let words: Vec<_> = comment.splitn(3, ' ').collect();
    let [keyword, name, rest] = words[..] else {
        return Err("a comment that is neither TYPE, HELP nor UNIT".into());
    };
    if !is_name(name) {
        return Err("invalid metric name".into());
    }
    if name != current {
        let family = Family { kind: "unknown".into(), samples: Vec::new() };
        if families.insert(name.into(), family).is_some() {
            return Err("the samples of a family are not contiguous".into());
        }
        *current = name.into();
    }
    let family = families.get_mut(name).ok_or("no family")?;
    match keyword {
        _ if !family.samples.is_empty() => Err("metadata after the samples".into()),
        "TYPE" if ["counter", "gauge", "histogram"].contains(&rest) => {
            family.kind = rest.into();
            Ok(())
        }
        "HELP" if !rest.is_empty() => Ok(()),
        "UNIT" if name.ends_with(&format!("_{rest}")) => Ok(()),
        _ => Err("invalid metadata".into()),
    }
}

impl Sample {
    fn read(line: &str, family: &str) -> Result<Self, String> {
        let rest = line.strip_prefix(family).ok_or("a sample of another family")?;
        let (suffix, rest) = rest.split_at(rest.find(['{', ' ']).ok_or("no value")?);
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => read_labels(rest)?,
            None => (BTreeMap::new(), rest),
        };
        let value = value.strip_prefix(' ').ok_or("no space before the value")?;
        let value = value.parse().map_err(|_| "the value is not a number")?;
        Ok(Self { suffix: suffix.into(), labels, value })
    }

    /// Returns its labels without `le`, the bound of a bucket.
    fn series(&self) -> BTreeMap<String, String> {
        let mut labels = self.labels.clone();
        labels.remove("le");
        labels
    }
}

/// Parses the labels up to `}`. Returns them and the rest.
fn read_labels(mut rest: &str) -> Result<(BTreeMap<String, String>, &str), String> {
    let mut labels = BTreeMap::new();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return Ok((labels, after));
        }
        let (name, quoted) = rest.split_once("=\"").ok_or("no label")?;
        let (mut value, mut chars) = (String::new(), quoted.char_indices());
        let end = loop {
            match chars.next().ok_or("unterminated label value")? {
                (end, '"') => break end,
                (_, '\\') => value.push(match chars.next() {
                    Some((_, 'n')) => '\n',
                    Some((_, escaped @ ('\\' | '"'))) => escaped,
                    other => return Err(format!("invalid escape {other:?}")),
                }),
                (_, plain) => value.push(plain),
            }
        };
        if !is_name(name) || labels.insert(name.into(), value).is_some() {
            return Err(format!("the label {name} is invalid or duplicate"));
        }
        rest = &quoted[end + 1..];
        match rest.strip_prefix(',') {
            Some(next) if !next.starts_with('}') => rest = next,
            Some(_) => return Err("trailing comma".into()),
            None if rest.starts_with('}') => {}
            None => return Err("no comma between labels".into()),
        }
    }
}

fn is_name(text: &str) -> bool {
    let first = text.chars().next();
    first.is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

impl Family {
    /// Checks the samples of the family called `name`. Only counters of seconds have fractions.
    fn check(&self, name: &str) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        for sample in &self.samples {
            if !seen.insert((&sample.suffix, &sample.labels)) {
                return Err(format!("duplicate sample: {sample:?}"));
            }
            let suffixes: &[&str] = match self.kind.as_str() {
                "counter" => &["_total"],
                "gauge" => &[""],
                "histogram" => &["_bucket", "_count", "_sum"],
                kind => return Err(format!("unsupported type {kind}")),
            };
            let is_sum =
                self.kind == "counter" || ["_bucket", "_count"].contains(&sample.suffix.as_str());
            let is_whole = sample.value.fract() == 0.0
                || (self.kind == "counter" && name.ends_with("_seconds"));
            if !suffixes.contains(&sample.suffix.as_str())
                || (is_sum && (sample.value < 0.0 || !is_whole))
            {
                return Err(format!("not a sample of a {}: {sample:?}", self.kind));
            }
        }
        if self.kind == "histogram" { self.check_histograms() } else { Ok(()) }
    }

    fn check_histograms(&self) -> Result<(), String> {
        let all: BTreeSet<_> = self.samples.iter().map(Sample::series).collect();
        for series in all {
            let of = |suffix: &'static str| {
                let series = &series;
                self.samples
                    .iter()
                    .filter(move |one| one.suffix == suffix && one.series() == *series)
            };
            let bound = |sample: &Sample| {
                sample.labels.get("le").and_then(|bound| bound.parse::<f64>().ok())
            };
            let buckets: Vec<_> = of("_bucket").map(|one| (bound(one), one.value)).collect();
            let rises =
                buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
            let last = of("_bucket").next_back().ok_or("no buckets")?;
            let (Some(count), Some(sum)) = (of("_count").next(), of("_sum").next()) else {
                return Err("a histogram without _count or _sum".into());
            };
            let is_whole = last.labels.get("le").is_some_and(|bound| bound == "+Inf")
                && last.value.to_bits() == count.value.to_bits();
            if !rises || !is_whole || sum.value < 0.0 || (sum.value > 0.0 && count.value == 0.0) {
                return Err(format!("{series:?}: {buckets:?}, {count:?}, {sum:?}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_openmetrics_text_is_rejected() {
        let histogram =
            |buckets: &str| format!("# TYPE h histogram\n{buckets}h_sum 1.5\nh_count 2\n# EOF\n");
        let good = histogram("h_bucket{le=\"1.0\"} 1\nh_bucket{le=\"+Inf\"} 2\n");
        assert_eq!(parse(&good)["h"].samples.len(), 4);
        let escaped =
            "# HELP c a b\n# TYPE c counter\nc_total{a=\"x\\\"\\\\\\n\",b=\"\"} 3\n# EOF\n";
        assert_eq!(sum(&parse(escaped), "c", &[("a", "x\"\\\n")]), 3.0);
        for bad in [
            "# TYPE c counter\nc_total 1\n",
            "# TYPE c counter\nc 1\n# EOF\n",
            "# TYPE c counter\nc_total 1.5\n# EOF\n",
            "# TYPE c counter\nc_total 1\nc_total 1\n# EOF\n",
            "# TYPE c counter\nc_total{a=\"x\",a=\"y\"} 1\n# EOF\n",
            "# TYPE c counter\nc_total{a=\"x\"b=\"y\"} 1\n# EOF\n",
            "# TYPE c counter\nc_total{a=\"x\"y\"} 1\n# EOF\n",
            "# TYPE c counter\nd_total 1\n# EOF\n",
            "# TYPE c counter\nc_total 1\n# HELP c late\n# EOF\n",
            "# TYPE c counter\n# TYPE d gauge\nd 1\n# HELP c again\n# EOF\n",
            "# UNIT c seconds\n# TYPE c counter\nc_total 1\n# EOF\n",
            "c_total 1\n# EOF\n",
            "# TYPE c counter\n\n# EOF\n",
            &histogram("h_bucket{le=\"1.0\"} 2\nh_bucket{le=\"+Inf\"} 1\n"),
            &histogram("h_bucket{le=\"1.0\"} 2\n"),
            &histogram("h_bucket{le=\"2.0\"} 1\nh_bucket{le=\"1.0\"} 1\nh_bucket{le=\"+Inf\"} 2\n"),
            &histogram("h_bucket{le=\"inf\"} 2\n"),
            &histogram(""),
        ] {
            assert!(std::panic::catch_unwind(|| parse(bad)).is_err(), "{bad}");
        }
    }
}
