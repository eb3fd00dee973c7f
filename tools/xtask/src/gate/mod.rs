//! `gate` measures every promised figure beside the limits of the same run and says which are kept.
//!
//! Server on core 0, load on core 1. Each repetition measures the limits, then every row. The process fails when a limit is
//! broken, when anything on the list was not measured, or when the floor itself is slower than disk plus wire allow.

mod criteria;
mod device;
mod limits;
mod list;
mod load;
mod loopback;
mod measure;
mod node;
mod samples;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::process::Step;
use crate::workspace::Workspace;
use criteria::{Judgement, Row, Verdict, judge, passed, shown};
use list::ROWS;
use load::Programs;
use measure::{MEASUREMENTS, Run, STANDS_ON};
use samples::Samples;

/// A machine with a higher load average is not quiet. The build before may leave some behind.
const LOAD_MAX: f64 = 1.5;

/// What `gate` is asked to do.
#[derive(Args)]
pub(crate) struct Options {
    /// One repetition of short runs: to see that everything works, not to judge by.
    #[arg(long)]
    quick: bool,
    /// Only these rows (and those they stand on), separated by commas.
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Print the judgements as a JSON list on the standard output.
    #[arg(long)]
    json: bool,
    /// How often everything is measured; the median counts.
    #[arg(long, default_value_t = 3)]
    repetitions: u32,
    /// Seconds of each load.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// A folder on the disk under measurement (default: inside the build's folder).
    #[arg(long)]
    data: Option<PathBuf>,
}

/// Measures and judges; `true` when every row keeps its limits.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    let rows = choose(&options.rows)?;
    let programs = build(workspace)?;
    let home = options.data.clone().unwrap_or_else(|| workspace.target.clone());
    let folder = home.join(format!("gate.{}", process::id()));
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let (repetitions, seconds) = if options.quick { (1, 3) } else { (options.repetitions, options.seconds) };

    warn_when_busy();
    let mut samples = Samples::default();
    let mut troubles = Vec::new();
    for repetition in 1..=repetitions {
        let mut run = Run { programs: &programs, folder: &folder, seconds, samples: &mut samples };
        eprintln!("gate: repetition {repetition} of {repetitions}: limits");
        if let Err(error) = run.limits() {
            troubles.push(format!("limits: {error:#}"));
        }
        for (name, measure) in MEASUREMENTS {
            if rows.iter().any(|row| row.name == name) {
                eprintln!("gate: repetition {repetition} of {repetitions}: {name}");
                // A row that can't be measured is missing in the end, and the others are still worth having.
                if let Err(error) = measure(&mut run) {
                    eprintln!("gate: {name}: {error:#}");
                    troubles.push(format!("{name}: {error:#}"));
                }
            }
        }
    }
    let judgements = judge(&rows, &samples);
    let measured = shown(&samples);
    if options.json {
        let all: Vec<&Judgement> = judgements.iter().chain(&measured).collect();
        println!("{}", serde_json::to_string_pretty(&all)?);
    } else {
        print(&judgements);
        println!("\nmeasured besides:");
        print(&measured);
    }
    for trouble in &troubles {
        eprintln!("gate: could not measure {trouble}");
    }
    if rows.len() < ROWS.len() {
        eprintln!(
            "gate: only {} of {} rows were asked for; this is no verdict on the whole",
            rows.len(),
            ROWS.len()
        );
    }
    if troubles.is_empty() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    } else {
        eprintln!("gate: what the nodes said is in {}", folder.display());
    }
    Ok(passed(&judgements))
}

/// The rows asked for with those they stand on, in the list's order; all when none is asked for.
fn choose(names: &[String]) -> Result<Vec<&'static Row>> {
    let mut chosen: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    for name in &chosen {
        if list::row(name).is_none() {
            let known: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
            bail!("there is no row {name}; the list has {}", known.join(", "));
        }
    }
    for (row, base) in STANDS_ON {
        if chosen.contains(row) {
            chosen.insert(base);
        }
    }
    let wanted = |name: &str| chosen.is_empty() || chosen.contains(name);
    Ok(ROWS.iter().filter(|row| wanted(row.name)).filter_map(|row| list::row(row.name)).collect())
}

/// Says so when others use the processors: then no figure means much.
fn warn_when_busy() {
    let load = fs::read_to_string("/proc/loadavg").ok();
    let load: Option<f64> = load.and_then(|text| text.split(' ').next()?.parse().ok());
    if let Some(load) = load.filter(|load| *load > LOAD_MAX) {
        eprintln!(
            "!!! gate: the load average is {load}; something else is running, and the figures will show it"
        );
    }
}

fn build(workspace: &Workspace) -> Result<Programs> {
    let arguments =
        ["build", "--release", "--quiet", "--package", "cutwater-cli", "--package", "cutwater-load"];
    if !Step::cargo(&workspace.root, &arguments).run_quiet()? {
        bail!("the release build failed");
    }
    let release = workspace.target.join("release");
    Ok(Programs { cutwater: release.join("cutwater"), floor: release.join("floor") })
}

fn print(judgements: &[Judgement]) {
    println!("{:<42} {:>12} {:>12} {:<12} {:<8} spread", "name", "value", "limit", "unit", "verdict");
    for judgement in judgements {
        let verdict = match judgement.verdict {
            Verdict::Pass => "pass",
            Verdict::Fail => "FAIL",
            Verdict::Missing => "MISSING",
            Verdict::Shown => "",
        };
        let spread = judgement
            .spread
            .map_or_else(String::new, |[min, max]| format!("{} .. {}", short(min), short(max)));
        let aim = match (judgement.aim, judgement.aim_reached) {
            (Some(aim), Some(true)) => format!("; aim {} reached", short(aim)),
            (Some(aim), _) => format!("; aim {} not reached", short(aim)),
            _ => String::new(),
        };
        println!(
            "{:<42} {:>12} {:>12} {:<12} {verdict:<8} {spread} (n={}){aim}",
            judgement.name,
            judgement.value.map_or_else(|| "-".to_owned(), short),
            judgement.limit.map_or_else(|| "-".to_owned(), short),
            judgement.unit,
            judgement.repetitions,
        );
    }
}

/// A number with about four digits that matter.
fn short(value: f64) -> String {
    match value.abs() {
        large if large >= 1e9 => format!("{:.3} G", value / 1e9),
        large if large >= 1e6 => format!("{:.3} M", value / 1e6),
        large if large >= 1e3 => format!("{value:.0}"),
        large if large >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_bring_those_they_stand_on() {
        let names: Vec<&str> =
            choose(&["end_to_end".to_owned()]).unwrap().iter().map(|row| row.name).collect();
        assert_eq!(names, vec!["durable_open", "end_to_end"]);
        assert_eq!(choose(&[]).unwrap().len(), ROWS.len());
        assert!(choose(&["durable_dream".to_owned()]).is_err());
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [short(2.5e9), short(1.25e6), short(1234.5), short(73.25), short(0.5)].map(String::from).to_vec(),
            vec!["2.500 G", "1.250 M", "1234", "73.2", "0.500"]
        );
    }
}
