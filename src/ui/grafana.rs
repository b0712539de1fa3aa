//! Grafana's dashboards (classic JSON, any schema with `panels` or `rows`) as ours, with a list of what could not be taken over.
//!
//! A panel that we cannot show becomes a card that says so: nothing is dropped in silence.

use serde_json::Value;

use super::dashboard::{Annotation, Dashboard, Level, PANELS_MAX, Panel, PanelKind, Query, Row, Thresholds, Variable};
use super::dashboards::substitute;
use crate::model::Interval;

/// The most notes of one dashboard; what follows is counted.
const NOTES_MAX: usize = 200;

/// Reads a dashboard in Grafana's format.
///
/// # Errors
/// Reason, line and column of what is no JSON or no dashboard.
pub(super) fn import(text: &str) -> Result<Dashboard, (String, usize, usize)> {
    let json: Value = serde_json::from_str(text).map_err(|error| (error.to_string(), error.line(), error.column()))?;
    // What the HTTP API exports wraps it.
    let json = json.get("dashboard").unwrap_or(&json);
    if !json["panels"].is_array() && !json["rows"].is_array() {
        return Err((
            "neither \"panels\" nor \"rows\": this is no dashboard of Grafana".to_owned(),
            0,
            0,
        ));
    }
    let mut import = Import::default();
    import.variables(&json["templating"]["list"]);
    import.annotations(&json["annotations"]["list"]);
    let rows = import.rows(json);
    let count: usize = rows.iter().map(|row| row.panels.len()).sum();
    if count > PANELS_MAX {
        return Err((format!("{count} panels; a dashboard may have {PANELS_MAX}"), 0, 0));
    }
    if !items(&json["links"]).is_empty() {
        import.note("links of the dashboard are not shown");
    }
    let title = word(json, "title");
    let over = import.notes.len().saturating_sub(NOTES_MAX);
    import.notes.truncate(NOTES_MAX);
    if over > 0 {
        import.notes.push(format!("and {over} more"));
    }
    Ok(Dashboard {
        title: if title.is_empty() { "Untitled".to_owned() } else { title },
        description: word(json, "description"),
        range: range_of(&json["time"]).unwrap_or(Interval::hours(1)),
        refresh: json["refresh"]
            .as_str()
            .and_then(|text| text.parse().ok())
            .unwrap_or(Interval::secs(15)),
        vars: import.vars,
        annotations: import.annotations,
        rows,
        notes: import.notes,
    })
}

/// `now-6h` to `now`; another end is not looked back from.
fn range_of(time: &Value) -> Option<Interval> {
    time["from"].as_str()?.strip_prefix("now-")?.parse().ok()
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn word(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

#[derive(Default)]
struct Import {
    vars: Vec<(String, Variable)>,
    annotations: Vec<Annotation>,
    /// Variables that choose a data source: there is one here.
    sources: Vec<String>,
    notes: Vec<String>,
}

impl Import {
    fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    fn variables(&mut self, list: &Value) {
        for json in items(list) {
            let name = word(json, "name");
            let kind = word(json, "type");
            if kind == "datasource" {
                self.sources.push(name);
                continue;
            }
            match self.variable(&name, &kind, json) {
                Some(_) if !is_name(&name) => {
                    self.note(format!("variable {name:?}: its name is not letters, digits, `_`"))
                }
                Some(variable) => self.vars.push((name, variable)),
                None => {}
            }
        }
    }

    fn variable(&mut self, name: &str, kind: &str, json: &Value) -> Option<Variable> {
        let current = json["current"]["value"]
            .as_str()
            .filter(|value| !value.starts_with("$__"));
        let mut variable = Variable {
            title: word(json, "label"),
            label: None,
            from: None,
            options: Vec::new(),
            default: None,
            all: json["includeAll"].as_bool().unwrap_or(false),
            multi: json["multi"].as_bool().unwrap_or(false),
            free: false,
            regex: None,
        };
        match kind {
            "query" => {
                let text = json["query"].as_str().or_else(|| json["query"]["query"].as_str());
                let text = text.or_else(|| json["definition"].as_str()).unwrap_or_default();
                let Some((label, from)) = label_values(&plain(text)) else {
                    self.note(format!(
                        "variable {name:?}: the query {text:?}; it can be written by hand"
                    ));
                    return Some(Variable {
                        free: true,
                        all: false,
                        multi: false,
                        default: current.map(str::to_owned),
                        ..variable
                    });
                };
                (variable.label, variable.from) = (Some(label), Some(from));
                variable.regex = self.regex(name, &word(json, "regex"));
            }
            "custom" | "interval" => {
                variable.options = options(&word(json, "query"));
                variable.default = current
                    .map(str::to_owned)
                    .filter(|value| variable.options.contains(value));
            }
            "constant" => variable.options = vec![word(json, "query")],
            "textbox" => {
                variable.free = true;
                variable.default = current.map_or_else(|| Some(word(json, "query")), |value| Some(value.to_owned()));
            }
            other => {
                self.note(format!("variable {name:?} of the kind {other:?}"));
                return None;
            }
        }
        if !variable.free && variable.label.is_none() && variable.options.is_empty() {
            self.note(format!("variable {name:?} has no values"));
            return None;
        }
        Some(variable)
    }

    fn regex(&mut self, name: &str, text: &str) -> Option<String> {
        let body = text
            .strip_prefix('/')
            .and_then(|text| text.strip_suffix('/'))
            .unwrap_or(text);
        if body.is_empty() {
            return None;
        }
        if regex::Regex::new(body).is_err() {
            self.note(format!("variable {name:?}: the regular expression {text:?}"));
            return None;
        }
        Some(body.to_owned())
    }

    fn annotations(&mut self, list: &Value) {
        for json in items(list) {
            let title = word(json, "name");
            let query = plain(&word(json, "expr"));
            if json["builtIn"].as_i64() == Some(1) || json["enable"].as_bool() == Some(false) {
                continue;
            }
            if query.is_empty() || !self.reads(&query) {
                self.note(format!(
                    "annotation {title:?}: not a query of Prometheus that can be read"
                ));
                continue;
            }
            let legend = legend_of(&word(json, "titleFormat"));
            self.annotations.push(Annotation { title, query, legend });
        }
    }

    /// Rows with their panels in reading order. Newer files have panels on a grid between row panels, older ones rows.
    fn rows(&mut self, json: &Value) -> Vec<Row> {
        let mut rows = Vec::new();
        for old in items(&json["rows"]) {
            let mut row = self.row(old);
            row.panels = self.panels(items(&old["panels"]));
            rows.push(row);
        }
        let mut placed: Vec<&Value> = items(&json["panels"]).iter().collect();
        let at = |panel: &Value, key: &str| panel["gridPos"][key].as_i64().unwrap_or(0);
        placed.sort_by_key(|panel| (at(panel, "y"), at(panel, "x")));
        for panel in placed {
            if word(panel, "type") == "row" {
                let mut row = self.row(panel);
                row.panels = self.panels(items(&panel["panels"]));
                rows.push(row);
                continue;
            }
            if rows.is_empty() {
                rows.push(self.row(&Value::Null));
            }
            let panel = self.panel(panel);
            rows.last_mut().expect("one was just put there").panels.push(panel);
        }
        rows.retain(|row| !row.panels.is_empty() || !row.title.is_empty());
        rows
    }

    fn row(&mut self, json: &Value) -> Row {
        Row {
            title: if json["showTitle"].as_bool() == Some(false) {
                String::new()
            } else {
                plain(&word(json, "title"))
            },
            repeat: self.repeat(json),
            folded: json["collapsed"]
                .as_bool()
                .or(json["collapse"].as_bool())
                .unwrap_or(false),
            panels: Vec::new(),
        }
    }

    fn panels(&mut self, list: &[Value]) -> Vec<Panel> {
        list.iter().map(|panel| self.panel(panel)).collect()
    }

    fn repeat(&mut self, json: &Value) -> Option<String> {
        let name = json["repeat"].as_str().filter(|name| !name.is_empty())?;
        if self.vars.iter().any(|(known, _)| known == name) {
            return Some(name.to_owned());
        }
        self.note(format!("repeated for {name:?}, which is no variable here"));
        None
    }

    fn panel(&mut self, json: &Value) -> Panel {
        let (title, kind) = (plain(&word(json, "title")), word(json, "type"));
        let mut panel = self.frame(json, &title);
        let shown = match kind.as_str() {
            "timeseries" | "graph" | "barchart" => PanelKind::Timeseries,
            "stat" | "singlestat" => PanelKind::Stat,
            "gauge" => PanelKind::Gauge,
            "bargauge" | "piechart" | "grafana-piechart-panel" => PanelKind::Bar,
            "table" | "table-old" => PanelKind::Table,
            "heatmap" | "heatmap-new" => PanelKind::Heatmap,
            "state-timeline" | "status-history" => PanelKind::Timeseries,
            "alertlist" => PanelKind::Alerts,
            "text" => {
                let content = json["options"]["content"].as_str().or_else(|| json["content"].as_str());
                panel.text = content
                    .map(str::trim)
                    .filter(|text| !text.is_empty())
                    .unwrap_or("–")
                    .to_owned();
                PanelKind::Text
            }
            other => return self.card(panel, format!("panel {title:?}: the kind {other:?}")),
        };
        if matches!(
            kind.as_str(),
            "piechart" | "grafana-piechart-panel" | "barchart" | "state-timeline" | "status-history"
        ) {
            self.note(format!("panel {title:?}: {kind} is shown as {}", shown.name()));
        }
        panel.kind = shown;
        if matches!(shown, PanelKind::Alerts | PanelKind::Text) {
            return panel;
        }
        if let Err(reason) = self.queries(json, &title, &mut panel) {
            return self.card(panel, reason);
        }
        let scale = panel.min.zip(panel.max).is_some_and(|(min, max)| min < max);
        if shown == PanelKind::Gauge && !scale {
            (panel.min, panel.max) = (Some(0.0), Some(if panel.unit == "ratio" { 1.0 } else { 100.0 }));
        } else if panel.min.zip(panel.max).is_some() && !scale {
            (panel.min, panel.max) = (None, None);
        }
        if !items(&json["transformations"]).is_empty() {
            let names: Vec<&str> = items(&json["transformations"])
                .iter()
                .filter_map(|one| one["id"].as_str())
                .collect();
            self.note(format!("panel {title:?}: transformations ({})", names.join(", ")));
        }
        if !items(&json["fieldConfig"]["overrides"]).is_empty() || !items(&json["seriesOverrides"]).is_empty() {
            self.note(format!("panel {title:?}: overrides of single series"));
        }
        panel
    }

    /// What all kinds of panels have.
    fn frame(&mut self, json: &Value, title: &str) -> Panel {
        let defaults = &json["fieldConfig"]["defaults"];
        let custom = &defaults["custom"];
        let columns = json["gridPos"]["w"]
            .as_u64()
            .map(|width| width.div_ceil(2))
            .or(json["span"].as_u64());
        let unit = defaults["unit"]
            .as_str()
            .or_else(|| json["yaxes"][0]["format"].as_str())
            .or_else(|| json["format"].as_str());
        let number = |value: &Value| {
            value
                .as_f64()
                .or_else(|| value.as_str().and_then(|text| text.parse().ok()))
        };
        let min = number(&defaults["min"]).or_else(|| number(&json["yaxes"][0]["min"]));
        let max = number(&defaults["max"]).or_else(|| number(&json["yaxes"][0]["max"]));
        let stacking = custom["stacking"]["mode"].as_str().is_some_and(|mode| mode != "none");
        Panel {
            title: title.to_owned(),
            description: word(json, "description"),
            kind: PanelKind::Timeseries,
            queries: Vec::new(),
            unit: unit_of(unit.unwrap_or_default()),
            decimals: defaults["decimals"]
                .as_u64()
                .and_then(|digits| u8::try_from(digits).ok()),
            min,
            max,
            stack: stacking || json["stack"].as_bool().unwrap_or(false),
            thresholds: thresholds(&defaults["thresholds"], min),
            width: u8::try_from(columns.unwrap_or(6).clamp(1, 12)).unwrap_or(6),
            text: String::new(),
            repeat: self.repeat(json),
        }
    }

    fn queries(&mut self, json: &Value, title: &str, panel: &mut Panel) -> Result<(), String> {
        for target in items(&json["targets"]) {
            let query = plain(&word(target, "expr"));
            if target["hide"].as_bool() == Some(true) {
                continue;
            }
            if query.trim().is_empty() {
                let source = target["datasource"]["type"].as_str().unwrap_or("another source");
                self.note(format!("panel {title:?}: a query of {source}"));
                continue;
            }
            if !self.reads(&query) {
                self.note(format!("panel {title:?}: the query {query:?}"));
                continue;
            }
            panel.queries.push(Query {
                query,
                legend: legend_of(&word(target, "legendFormat")),
            });
        }
        if panel.queries.is_empty() {
            Err(format!("panel {title:?}: none of its queries can be asked here"))
        } else {
            Ok(())
        }
    }

    /// Whether the query is PromQL, with examples in place of the variables.
    fn reads(&self, query: &str) -> bool {
        substitute(query, &self.vars).is_ok_and(|whole| crate::query::parse(&whole).is_ok())
    }

    /// A card in place of a panel that cannot be shown.
    fn card(&mut self, panel: Panel, reason: String) -> Panel {
        let text = format!("This panel could not be taken over from Grafana.\n\n{reason}.");
        self.note(reason);
        Panel {
            kind: PanelKind::Text,
            text,
            queries: Vec::new(),
            thresholds: Thresholds::default(),
            min: None,
            max: None,
            ..panel
        }
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// `${name:format}` and `[[name]]` as `${name}`: values are always written for use in a pattern.
fn plain(text: &str) -> String {
    let text = text.replace("[[", "${").replace("]]", "}");
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find("${") {
        let (before, inside) = (&rest[..at], &rest[at + 2..]);
        let Some(end) = inside.find('}') else { break };
        let name = inside[..end].split(':').next().unwrap_or_default();
        out.push_str(before);
        out.push_str("${");
        out.push_str(name);
        out.push('}');
        rest = &inside[end + 1..];
    }
    out.push_str(rest);
    out
}

/// The label and selector of `label_values(selector, label)`, `label_values(label)` or `metrics(pattern)`.
fn label_values(text: &str) -> Option<(String, String)> {
    let text = text.trim();
    if let Some(pattern) = text.strip_prefix("metrics(").and_then(|rest| rest.strip_suffix(')')) {
        return Some((
            "__name__".to_owned(),
            format!("{{__name__=~{}}}", crate::query::print::quote(pattern)),
        ));
    }
    let inside = text.strip_prefix("label_values(")?.strip_suffix(')')?.trim();
    let (from, label) = match inside.rsplit_once(',') {
        Some((from, label)) if !label.contains(['}', '"']) => (from.trim().to_owned(), label.trim()),
        _ => (format!("{{{inside}!=\"\"}}"), inside),
    };
    is_label(label).then(|| (label.to_owned(), from))
}

fn is_label(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// `a,b : c` as the values of each: `text : value` has a name that we do not show.
fn options(text: &str) -> Vec<String> {
    let values = text
        .split(',')
        .map(|part| part.rsplit(" : ").next().unwrap_or(part).trim().to_owned());
    values
        .filter(|value| !value.is_empty() && !value.starts_with("$__auto"))
        .collect()
}

fn legend_of(text: &str) -> String {
    if text == "__auto" { String::new() } else { plain(text) }
}

fn unit_of(name: &str) -> String {
    let ours = match name {
        "none" | "short" | "string" => "",
        "s" | "dtdurations" => "seconds",
        "bytes" | "decbytes" => "bytes",
        "Bps" | "binBps" => "bytes/s",
        "bps" | "binbps" => "bits/s",
        "percentunit" => "ratio",
        "reqps" | "ops" | "rps" | "wps" | "iops" | "cps" | "pps" | "eps" | "mps" => "/s",
        "hertz" => "Hz",
        "celsius" => "°C",
        "volt" => "V",
        "amp" => "A",
        "watt" => "W",
        "rotrpm" => "rpm",
        "dateTimeAsIso" | "dateTimeAsLocal" | "dateTimeFromNow" => "date",
        other => other.strip_prefix("suffix:").unwrap_or(other),
    };
    ours.to_owned()
}

fn thresholds(json: &Value, min: Option<f64>) -> Thresholds {
    if json["mode"].as_str() == Some("percentage") {
        return Thresholds::default();
    }
    let mut steps: Vec<(f64, Level)> = Vec::new();
    for step in items(&json["steps"]) {
        let color = step["color"].as_str().unwrap_or_default();
        let level = match color {
            _ if color.contains("green") || color == "#299c46" => Level::Ok,
            _ if color.contains("red") || color == "#d44a3a" => Level::Bad,
            _ if color.contains("yellow") || color.contains("orange") || color.starts_with("rgba(237, 129, 40") => {
                Level::Warn
            }
            _ => continue,
        };
        let from = step["value"].as_f64().unwrap_or(min.unwrap_or(0.0));
        if !steps.iter().any(|(at, known)| *known == level || *at >= from) {
            steps.push((from, level));
        }
    }
    Thresholds(if steps.len() > 1 { steps } else { Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::{read_dashboard, to_yaml};

    const SMALL: &str = r#"{
      "title": "Node", "schemaVersion": 39, "time": {"from": "now-6h", "to": "now"}, "refresh": "30s",
      "templating": {"list": [
        {"name": "ds", "type": "datasource", "query": "prometheus"},
        {"name": "job", "type": "query", "query": {"query": "label_values(up, job)"}, "includeAll": true, "multi": true, "regex": "/(node.*)/"},
        {"name": "dev", "type": "query", "query": "label_values(node_disk_io_now{job=\"$job\"}, device)"},
        {"name": "win", "type": "interval", "query": "1m,5m,1h", "current": {"value": "5m"}},
        {"name": "sum", "type": "query", "query": "query_result(sum(up))"},
        {"name": "more", "type": "adhoc"}]},
      "annotations": {"list": [{"builtIn": 1, "name": "x"}, {"name": "Boots", "expr": "changes(up[5m]) > 0", "titleFormat": "{{job}}"}]},
      "panels": [
        {"type": "row", "title": "For [[job]]", "gridPos": {"y": 0}, "repeat": "job", "collapsed": true, "panels": [
          {"type": "timeseries", "title": "Rate", "gridPos": {"w": 12}, "fieldConfig": {"defaults": {"unit": "Bps", "custom": {"stacking": {"mode": "normal"}}}},
           "targets": [{"expr": "rate(x{job=~\"${job:regex}\"}[$__rate_interval])", "legendFormat": "{{device}}"}]}]},
        {"type": "gauge", "title": "Use", "gridPos": {"y": 9, "x": 0, "w": 6}, "targets": [{"expr": "up"}],
         "fieldConfig": {"defaults": {"unit": "percent", "thresholds": {"steps": [{"color": "green", "value": null}, {"color": "orange", "value": 70}, {"color": "red", "value": 90}]}}}},
        {"type": "geomap", "title": "Map", "gridPos": {"y": 9, "x": 6, "w": 6}, "targets": [{"expr": "up"}]},
        {"type": "stat", "title": "Wrong", "gridPos": {"y": 10}, "targets": [{"expr": "rate(("}]},
        {"type": "table", "title": "Tab", "gridPos": {"y": 11}, "targets": [{"expr": "up", "format": "table"}], "transformations": [{"id": "merge"}]},
        {"type": "heatmap", "title": "Heat", "gridPos": {"y": 12}, "targets": [{"expr": "sum by (le) (rate(h_bucket[5m]))"}]}]}"#;

    #[test]
    fn what_people_use_is_taken_over_and_the_rest_is_listed() {
        let board = read_dashboard("node.json", SMALL).unwrap();
        assert_eq!(
            (&*board.title, board.range, board.refresh),
            ("Node", Interval::hours(6), Interval::secs(30))
        );
        let names: Vec<&str> = board.vars.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["job", "dev", "win", "sum"]);
        let job = &board.vars[0].1;
        assert_eq!(
            (job.label.as_deref(), job.from.as_deref(), job.regex.as_deref()),
            (Some("job"), Some("up"), Some("(node.*)"))
        );
        assert!(job.all && job.multi && board.vars[3].1.free);
        assert_eq!(board.vars[2].1.default.as_deref(), Some("5m"));
        assert_eq!(board.annotations[0].legend, "{{job}}");
        let row = &board.rows[0];
        assert_eq!(
            (&*row.title, row.repeat.as_deref(), row.folded),
            ("For ${job}", Some("job"), true)
        );
        let rate = &row.panels[0];
        assert_eq!(
            (&*rate.unit, rate.stack, rate.width, &*rate.queries[0].query),
            ("bytes/s", true, 6, r#"rate(x{job=~"${job}"}[$__rate_interval])"#)
        );
        let kinds: Vec<PanelKind> = board.rows[0].panels[1..].iter().map(|panel| panel.kind).collect();
        assert_eq!(
            kinds,
            [
                PanelKind::Gauge,
                PanelKind::Text,
                PanelKind::Text,
                PanelKind::Table,
                PanelKind::Heatmap
            ]
        );
        assert_eq!(
            row.panels[1].thresholds.0,
            [(0.0, Level::Ok), (70.0, Level::Warn), (90.0, Level::Bad)]
        );
        let notes = board.notes.join("\n");
        for part in ["query_result", "adhoc", "geomap", "rate((", "merge"] {
            assert!(notes.contains(part), "{part} is not in\n{notes}");
        }
    }

    #[test]
    fn what_was_taken_over_can_be_written_as_yaml_and_read() {
        let board = read_dashboard("node.json", SMALL).unwrap();
        let text = to_yaml(&board);
        let read = read_dashboard("node.yaml", &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(
            Dashboard {
                notes: board.notes.clone(),
                ..read
            },
            board
        );
        assert!(text.starts_with("# not taken over: "), "{text}");
    }

    #[test]
    fn old_rows_are_read_too_and_what_is_no_dashboard_is_refused() {
        let old = r#"{"title": "Old", "rows": [{"title": "R", "panels": [{"type": "singlestat", "span": 3, "format": "s", "targets": [{"expr": "up"}]}]}]}"#;
        let panel = &import(old).unwrap().rows[0].panels[0];
        assert_eq!((panel.kind, panel.width, &*panel.unit), (PanelKind::Stat, 3, "seconds"));
        assert!(import("{}").is_err() && import("[1").unwrap_err().1 == 1);
    }

    #[test]
    fn the_dashboards_for_grafana_are_the_shipped_ones() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/grafana/dashboards");
        let shipped = crate::ui::Dashboards::builtin();
        for (name, ours) in shipped.iter() {
            let text = std::fs::read_to_string(root.join(format!("{name}.json"))).unwrap();
            let theirs = read_dashboard("x.json", &text).unwrap();
            assert_eq!(theirs.notes, Vec::<String>::new(), "{name}");
            let queries = |board: &Dashboard| -> Vec<String> {
                let panels = board.rows.iter().flat_map(|row| &row.panels);
                panels
                    .flat_map(|panel| &panel.queries)
                    .map(|query| query.query.clone())
                    .collect()
            };
            let hint = "python3 deploy/grafana/make.py writes it anew";
            assert_eq!(queries(&theirs), queries(ours), "{name}: {hint}");
            assert_eq!(
                (&theirs.title, theirs.range),
                (&ours.title, ours.range),
                "{name}: {hint}"
            );
            assert_eq!(theirs.vars.len(), ours.vars.len(), "{name}: {hint}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_json_makes_it_panic(text in r#"\{"panels":\[(\{"type":"(row|stat|gauge|text)","targets":\[\{"expr":"[a-z\[\]${}:]{0,12}"\}\]\},?){0,3}\]\}"#) {
            let _ = import(&text);
        }
    }
}
