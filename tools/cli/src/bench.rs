//! `cutwater bench`: the load generator of `bench/load` from the command line.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use cutwater_load::{BenchArguments, Outcome, plot};

use crate::remote::Remote;

pub(crate) fn run(remote: &Remote, arguments: &BenchArguments) -> Result<()> {
    let Outcome { report, histogram } = cutwater_load::run(arguments, &remote.server, remote.timeout)?;
    if arguments.json || remote.is_json() {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.to_text());
    }
    if report.missed.is_none() {
        if let Some(path) = &arguments.hgrm {
            write(path, &plot::to_hgrm(&histogram))?;
        }
        if let Some(path) = &arguments.report {
            let is_page = path.extension().is_some_and(|extension| extension == "html");
            let title = format!("cutwater bench: {}", report.mode);
            let drawing =
                if is_page { plot::to_html(&histogram, &report) } else { plot::to_svg(&histogram, &title) };
            write(path, &drawing)?;
        }
    }
    if !report.is_good() {
        bail!("the run had errors: {}", report.first_error.as_deref().unwrap_or("see above"));
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
