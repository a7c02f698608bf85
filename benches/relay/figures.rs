//! What a row of slices says: medians and ranges, and ratios of slices that ran side by side.

use std::fmt;

use serde_json::{Value, json};

/// The slices of one program.
pub struct Series {
    pub name: &'static str,
    values: Vec<f64>,
}

impl Series {
    pub fn new(name: &'static str) -> Series {
        Series { name, values: Vec::new() }
    }

    pub fn push(&mut self, value: f64) {
        self.values.push(value);
    }

    pub fn median(&self) -> f64 {
        median(self.values.clone())
    }

    pub fn json(&self) -> Value {
        json!({ "median": self.median(), "slices": self.values })
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let least = self.values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.values.iter().copied().fold(0.0, f64::max);
        write!(f, "{:<26}{:>8.2}  ({least:.2} to {most:.2})", self.name, self.median())
    }
}

/// How many times `base` a program costs, by slices of the same round: what slowed both slowed neither.
pub fn ratio(one: &Series, base: &Series) -> String {
    let pairs: Vec<f64> = one.values.iter().zip(&base.values).map(|(a, b)| a / b).collect();
    format!("{:.2} × {}", median(pairs), base.name)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}
