//! The bounds of histograms, each with how it is written as a label.

use super::histogram::Bound;

/// How many changes or rows a commit has: up to one, a few, and so on; its budget
/// is 1,200 rows.
pub const COMMIT_SIZES: &[Bound] =
    &[(1, "1.0"), (4, "4.0"), (16, "16.0"), (64, "64.0"), (256, "256.0"), (1_200, "1200.0")];
/// How long a commit takes, in microseconds.
pub const COMMIT_TIMES: &[Bound] = &[
    (300, "0.0003"),
    (1_000, "0.001"),
    (3_000, "0.003"),
    (10_000, "0.01"),
    (30_000, "0.03"),
    (100_000, "0.1"),
    (1_000_000, "1.0"),
];
/// How long a delivery takes from when it is numbered, in microseconds: from what is
/// sent at once to the end of the retries.
pub const DELIVERY_TIMES: &[Bound] = &[
    (1_000, "0.001"),
    (3_000, "0.003"),
    (10_000, "0.01"),
    (30_000, "0.03"),
    (100_000, "0.1"),
    (300_000, "0.3"),
    (1_000_000, "1.0"),
    (3_000_000, "3.0"),
    (10_000_000, "10.0"),
    (60_000_000, "60.0"),
    (600_000_000, "600.0"),
    (3_600_000_000, "3600.0"),
    (86_400_000_000, "86400.0"),
];
