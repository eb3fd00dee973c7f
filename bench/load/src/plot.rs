//! The latency distribution in files: HdrHistogram's text form, and a drawing.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

use crate::report::Report;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 480.0;
const MARGIN: f64 = 70.0;
/// The rightmost quantile drawn is 1 less one part in ten to this.
const NINES: f64 = 5.0;

/// HdrHistogram's percentile distribution (.hgrm), values in microseconds.
#[must_use]
pub fn to_hgrm(histogram: &Histogram<u64>) -> String {
    let mut text =
        format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut total = 0;
    for step in histogram.iter_quantiles(5) {
        total += step.count_since_last_iteration();
        let quantile = step.quantile_iterated_to();
        let value = step.value_iterated_to().min(histogram.max()) as f64 / 1e3;
        let inverse = if quantile < 1.0 { format!("{:14.2}", 1.0 / (1.0 - quantile)) } else { String::new() };
        // Writing to a string can't fail.
        let _ = writeln!(text, "{value:12.3} {quantile:2.12} {:10} {inverse}", total);
    }
    let _ = writeln!(
        text,
        "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]\n#[Max     = {:12.3}, Total count    = {:12}]",
        histogram.mean() / 1e3,
        histogram.stdev() / 1e3,
        histogram.max() as f64 / 1e3,
        histogram.len()
    );
    text
}

/// A drawing of latency over quantile, the tail spread out.
#[must_use]
pub fn to_svg(histogram: &Histogram<u64>, title: &str) -> String {
    let top_us = (histogram.max() as f64 / 1e3).max(1.0);
    let x = |nines: f64| MARGIN + nines / NINES * (WIDTH - 2.0 * MARGIN);
    let y = |us: f64| HEIGHT - MARGIN - us / top_us * (HEIGHT - 2.0 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{MARGIN}\" y=\"30\" font-size=\"16\">{}</text>\n",
        escape(title)
    );
    for (nines, label) in
        [(0.0, "0%"), (1.0, "90%"), (2.0, "99%"), (3.0, "99.9%"), (4.0, "99.99%"), (5.0, "99.999%")]
    {
        let (at, bottom) = (x(nines), HEIGHT - MARGIN);
        let _ = writeln!(
            svg,
            "<line x1=\"{at:.1}\" y1=\"{MARGIN}\" x2=\"{at:.1}\" y2=\"{bottom}\" stroke=\"#ddd\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
            bottom + 20.0
        );
    }
    for part in 0..=4 {
        let us = top_us * f64::from(part) / 4.0;
        let _ = writeln!(
            svg,
            "<line x1=\"{MARGIN}\" y1=\"{0:.1}\" x2=\"{1}\" y2=\"{0:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{2}\" y=\"{3:.1}\" text-anchor=\"end\">{us:.0} us</text>",
            y(us),
            WIDTH - MARGIN,
            MARGIN - 6.0,
            y(us) + 4.0
        );
    }
    svg.push_str("<polyline fill=\"none\" stroke=\"#1b6ca8\" stroke-width=\"2\" points=\"");
    for step in 0..=500 {
        let nines = NINES * f64::from(step) / 500.0;
        let quantile = 1.0 - 10_f64.powf(-nines);
        let us = histogram.value_at_quantile(quantile).min(histogram.max()) as f64 / 1e3;
        let _ = write!(svg, "{:.1},{:.1} ", x(nines), y(us));
    }
    svg.push_str("\"/>\n</svg>\n");
    svg
}

/// A page with the drawing and the table.
#[must_use]
pub fn to_html(histogram: &Histogram<u64>, report: &Report) -> String {
    let title = format!("cutwater bench: {}", report.mode);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title></head>\n\
         <body>\n{}\n<pre>{}</pre>\n</body></html>\n",
        to_svg(histogram, &title),
        escape(&report.to_text())
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram() -> Histogram<u64> {
        let mut histogram = Histogram::new(3).unwrap();
        (1..=1000_u64).for_each(|at| histogram.record(at * 1000).unwrap());
        histogram
    }

    #[test]
    fn the_text_form_ends_with_all_values_and_their_count() {
        let text = to_hgrm(&histogram());
        let last = text.lines().rfind(|line| !line.starts_with('#')).unwrap();
        let fields: Vec<&str> = last.split_whitespace().collect();
        assert_eq!((fields[1], fields[2]), ("1.000000000000", "1000"));
        assert!((fields[0].parse::<f64>().unwrap() - 1000.0).abs() < 1.0);
        assert!(text.contains("Total count    =         1000"));
    }

    #[test]
    fn drawings_escape_their_title_and_stay_inside() {
        let svg = to_svg(&histogram(), "a < b");
        assert!(svg.contains("a &lt; b") && svg.ends_with("</svg>\n"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        assert!(to_svg(&Histogram::new(3).unwrap(), "").contains("polyline"));
        assert!(to_html(&histogram(), &crate::report::tests::sample(None, 1.0)).contains("<pre>"));
    }
}
