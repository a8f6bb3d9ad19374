//! The rows of the table: what is asked, with how much in flight, and what ringnfs is to reach there.

/// What a row asks of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// NULL.
    Null,
    /// GETATTR of a random file.
    Getattr,
    /// LOOKUP of a random name in one directory.
    Lookup,
    /// ACCESS of a random file.
    Access,
    /// READ at a random place of a random file.
    Read,
    /// WRITE at a random place of a random file, with this `stable_how` (RFC 1813 section 3.3.7).
    Write(u32),
    /// CREATE of a new name, then its REMOVE; each counts as one operation.
    CreateRemove {
        /// All connections work in one directory, in place of one each.
        shared: bool,
    },
    /// READDIRPLUS of a whole directory of [`LISTED`] files.
    Readdirplus,
    /// Something of NFSv4 in this minor version, 1 or 2.
    V4(u32, Op4),
}

/// What an NFSv4 row asks of the server. Every compound starts with SEQUENCE and PUTFH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op4 {
    /// GETATTR of a random file.
    Getattr,
    /// LOOKUP of a random name, GETFH, GETATTR.
    Lookup,
    /// READ of a random file that is open, at a random place.
    Read,
    /// The same with READ_PLUS, of 4.2; there are no holes.
    ReadPlus,
    /// WRITE of a random file that is open, at a random place, with this `stable_how4`.
    Write(u32),
    /// OPEN of a file that is there, GETFH, GETATTR; then its CLOSE.
    OpenClose,
    /// OPEN that creates, GETFH, GETATTR; then CLOSE; then REMOVE. Each compound counts as one operation.
    CreateRemove,
    /// LOCK of a range that nobody else wants; then its LOCKU.
    LockUnlock,
    /// READDIR of a whole directory of [`LISTED`] files with attributes and handles.
    Readdir,
}

/// Files in the listed directory; with `.` and `..` a reply carries 66 entries.
pub const LISTED: usize = 64;
/// Files that are read and files that are written.
pub const FILES: usize = 64;
/// Size of each of those.
pub const FILE_SIZE: u64 = 1 << 20;
/// `stable_how` UNSTABLE.
pub const UNSTABLE: u32 = 0;
/// `stable_how` FILE_SYNC.
pub const FILE_SYNC: u32 = 2;

/// What a goal compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Operations a second: at least.
    Ops,
    /// Median latency: at most.
    P50,
    /// Server CPU an operation: at most.
    Cpu,
}

/// What a goal compares with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// Another server on the same row.
    Server(&'static str),
    /// The same server on another row.
    Row(&'static str),
}

/// A ratio to reach in one run.
pub type Goal = (Metric, Against, f64);

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Short name for `--rows`.
    pub id: &'static str,
    /// What the table prints.
    pub title: &'static str,
    /// What is asked.
    pub kind: Kind,
    /// TCP connections.
    pub conns: usize,
    /// Calls in flight on each.
    pub depth: usize,
    /// Data bytes of one READ or WRITE.
    pub size: u32,
    /// Goals.
    pub goals: &'static [Goal],
}

impl Row {
    pub(crate) const fn new(
        id: &'static str,
        title: &'static str,
        kind: Kind,
        load: (usize, usize),
        size: u32,
        goals: &'static [Goal],
    ) -> Row {
        Row {
            id,
            title,
            kind,
            conns: load.0,
            depth: load.1,
            size,
            goals,
        }
    }
}

const GANESHA: Against = Against::Server("ganesha");
const FLOOR: Against = Against::Server("echo");
const CHEAP_CALL: &[Goal] = &[(Metric::Ops, GANESHA, 10.0), (Metric::Cpu, GANESHA, 0.1)];
const ROUND_TRIP: &[Goal] = &[(Metric::P50, FLOOR, 1.4)];
const NAMES: &[Goal] = &[(Metric::Ops, GANESHA, 3.0)];

/// Every row, in the order of the table.
pub const ROWS: &[Row] = &[
    Row::new("null-1x1", "NULL", Kind::Null, (1, 1), 0, ROUND_TRIP),
    Row::new(
        "getattr-1x1",
        "GETATTR",
        Kind::Getattr,
        (1, 1),
        0,
        ROUND_TRIP,
    ),
    Row::new("getattr", "GETATTR", Kind::Getattr, (8, 16), 0, CHEAP_CALL),
    Row::new("lookup", "LOOKUP", Kind::Lookup, (8, 16), 0, CHEAP_CALL),
    Row::new("access", "ACCESS", Kind::Access, (8, 16), 0, CHEAP_CALL),
    Row::new(
        "read-4k",
        "READ 4 KiB cached",
        Kind::Read,
        (8, 16),
        4096,
        &[(Metric::Ops, GANESHA, 8.0)],
    ),
    Row::new(
        "read-1m",
        "READ 1 MiB cached",
        Kind::Read,
        (1, 4),
        1 << 20,
        &[(Metric::Ops, FLOOR, 0.85)],
    ),
    Row::new(
        "write-4k",
        "WRITE 4 KiB UNSTABLE",
        Kind::Write(UNSTABLE),
        (8, 16),
        4096,
        &[(Metric::Ops, GANESHA, 5.0)],
    ),
    Row::new(
        "write-1m",
        "WRITE 1 MiB UNSTABLE",
        Kind::Write(UNSTABLE),
        (1, 4),
        1 << 20,
        &[(Metric::Ops, GANESHA, 1.5)],
    ),
    Row::new(
        "write-4k-sync",
        "WRITE 4 KiB FILE_SYNC",
        Kind::Write(FILE_SYNC),
        (8, 8),
        4096,
        &[(Metric::Ops, GANESHA, 2.0)],
    ),
    Row::new(
        "create",
        "CREATE+REMOVE",
        Kind::CreateRemove { shared: false },
        (8, 8),
        0,
        NAMES,
    ),
    Row::new(
        "create-shared",
        "CREATE+REMOVE, 1 directory",
        Kind::CreateRemove { shared: true },
        (8, 8),
        0,
        &[],
    ),
    Row::new(
        "readdirplus",
        "READDIRPLUS 66 entries",
        Kind::Readdirplus,
        (2, 4),
        0,
        NAMES,
    ),
    Row::new(
        "nconnect-1",
        "GETATTR, one connection",
        Kind::Getattr,
        (1, 128),
        0,
        &[],
    ),
    Row::new(
        "nconnect-8",
        "GETATTR, nconnect=8",
        Kind::Getattr,
        (8, 16),
        0,
        &[(Metric::Ops, Against::Row("nconnect-1"), 1.0)],
    ),
    Row::new(
        "v4-getattr-1x1",
        "4.1 GETATTR",
        Kind::V4(1, Op4::Getattr),
        (1, 1),
        0,
        ROUND_TRIP,
    ),
    Row::new(
        "v4-getattr",
        "4.1 GETATTR",
        Kind::V4(1, Op4::Getattr),
        (8, 16),
        0,
        &[
            (Metric::Ops, GANESHA, 8.0),
            (Metric::Ops, Against::Row("getattr"), 0.75),
        ],
    ),
    Row::new(
        "v4-lookup",
        "4.1 LOOKUP+GETFH+GETATTR",
        Kind::V4(1, Op4::Lookup),
        (8, 16),
        0,
        &[(Metric::Ops, GANESHA, 8.0)],
    ),
    Row::new(
        "v4-read-4k",
        "4.1 READ 4 KiB cached",
        Kind::V4(1, Op4::Read),
        (8, 16),
        4096,
        &[
            (Metric::Ops, GANESHA, 7.0),
            (Metric::Ops, Against::Row("read-4k"), 0.75),
        ],
    ),
    Row::new(
        "v4-read-1m",
        "4.1 READ 1 MiB cached",
        Kind::V4(1, Op4::Read),
        (1, 4),
        1 << 20,
        &[(Metric::Ops, FLOOR, 0.85)],
    ),
    Row::new(
        "v4-write-4k",
        "4.1 WRITE 4 KiB UNSTABLE",
        Kind::V4(1, Op4::Write(UNSTABLE)),
        (8, 16),
        4096,
        &[(Metric::Ops, GANESHA, 5.0)],
    ),
    Row::new(
        "v4-write-1m",
        "4.1 WRITE 1 MiB UNSTABLE",
        Kind::V4(1, Op4::Write(UNSTABLE)),
        (1, 4),
        1 << 20,
        &[(Metric::Ops, GANESHA, 1.5)],
    ),
    Row::new(
        "v4-open",
        "4.1 OPEN, CLOSE",
        Kind::V4(1, Op4::OpenClose),
        (8, 16),
        0,
        &[(Metric::Ops, GANESHA, 4.0)],
    ),
    Row::new(
        "v4-create",
        "4.1 create, CLOSE, REMOVE",
        Kind::V4(1, Op4::CreateRemove),
        (8, 8),
        0,
        NAMES,
    ),
    Row::new(
        "v4-lock",
        "4.1 LOCK, LOCKU",
        Kind::V4(1, Op4::LockUnlock),
        (8, 16),
        0,
        &[(Metric::Ops, GANESHA, 4.0)],
    ),
    Row::new(
        "v4-readdir",
        "4.1 READDIR 64 entries",
        Kind::V4(1, Op4::Readdir),
        (2, 4),
        0,
        NAMES,
    ),
    Row::new(
        "v42-getattr",
        "4.2 GETATTR",
        Kind::V4(2, Op4::Getattr),
        (8, 16),
        0,
        &[
            (Metric::Ops, GANESHA, 8.0),
            (Metric::Ops, Against::Row("getattr"), 0.75),
        ],
    ),
    Row::new(
        "v42-read-4k",
        "4.2 READ 4 KiB cached",
        Kind::V4(2, Op4::Read),
        (8, 16),
        4096,
        &[
            (Metric::Ops, GANESHA, 7.0),
            (Metric::Ops, Against::Row("read-4k"), 0.75),
        ],
    ),
    Row::new(
        "v42-read-plus-4k",
        "4.2 READ_PLUS 4 KiB cached",
        Kind::V4(2, Op4::ReadPlus),
        (8, 16),
        4096,
        &[],
    ),
];

/// The rows whose id starts with one of `wanted` (all for none); an unknown name is an error.
pub fn select(wanted: &[String]) -> Result<Vec<Row>, String> {
    for name in wanted {
        if !ROWS.iter().any(|row| row.id.starts_with(name.as_str())) {
            let known: Vec<_> = ROWS.iter().map(|row| row.id).collect();
            return Err(format!("no row '{name}'; rows: {}", known.join(" ")));
        }
    }
    let chosen = |row: &Row| {
        let exact = wanted
            .iter()
            .any(|w| ROWS.iter().any(|r| r.id == w) && w == row.id);
        let prefix = wanted
            .iter()
            .any(|w| !ROWS.iter().any(|r| r.id == w) && row.id.starts_with(w.as_str()));
        wanted.is_empty() || exact || prefix
    };
    Ok(ROWS.iter().filter(|row| chosen(row)).copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_id_means_that_row_and_a_prefix_means_all_it_starts() {
        let ids = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|n| n.to_string()).collect();
            select(&names).map(|rows| rows.iter().map(|r| r.id).collect::<Vec<_>>())
        };
        assert_eq!(ids(&["getattr"]).unwrap(), ["getattr"]);
        assert_eq!(
            ids(&["write-1m", "read"]).unwrap(),
            ["read-4k", "read-1m", "write-1m", "readdirplus"]
        );
        assert_eq!(ids(&[]).unwrap().len(), ROWS.len());
        assert!(ids(&["chmod"]).is_err());
    }

    #[test]
    fn goals_name_rows_that_exist() {
        for (_, against, _) in ROWS.iter().flat_map(|row| row.goals) {
            if let Against::Row(id) = against {
                assert!(ROWS.iter().any(|row| row.id == *id));
            }
        }
    }
}
