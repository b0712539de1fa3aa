//! All dashboards of a server: those that are shipped, those of the operator, and what is wrong with them.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::dashboard::{Dashboard, PANELS_MAX, Variable};
use crate::model::yaml::{self, YamlError};

/// The dashboards in the binary: name and text.
const BUILTIN: [(&str, &str); 4] = [
    ("host", include_str!("../../dashboards/host.yaml")),
    ("campanile", include_str!("../../dashboards/campanile.yaml")),
    ("alerts", include_str!("../../dashboards/alerts.yaml")),
    ("clicks", include_str!("../../dashboards/clicks.yaml")),
];

/// The dashboards of a server, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dashboards {
    all: BTreeMap<String, Entry>,
}

/// A dashboard and what it was read from.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The dashboard.
    pub dashboard: Dashboard,
    /// The file's name, as the configuration led to it; `builtin:host.yaml` for a shipped one.
    pub file: String,
    /// The file's text.
    pub text: String,
}

impl Entry {
    /// Whether it was read from Grafana's format.
    pub fn is_foreign(&self) -> bool {
        is_json(&self.file)
    }

    /// Returns the dashboard as YAML: the text of its file, or what a foreign one became.
    pub fn yaml(&self) -> String {
        if self.is_foreign() {
            super::write::to_yaml(&self.dashboard)
        } else {
            self.text.clone()
        }
    }
}

/// A line in the list of dashboards.
#[derive(Debug, PartialEq, Serialize)]
pub struct Summary<'a> {
    /// The name in addresses.
    pub name: &'a str,
    /// The title.
    pub title: &'a str,
    /// What it is for.
    pub description: &'a str,
    /// How many panels it has.
    pub panels: usize,
    /// `builtin`, `file`, or `grafana`.
    pub origin: &'static str,
    /// How many things of a foreign one could not be taken over.
    pub notes: usize,
}

impl Dashboards {
    /// Returns the shipped dashboards.
    ///
    /// # Panics
    /// Never: a test reads each of them.
    pub fn builtin() -> Dashboards {
        let mut dashboards = Dashboards::default();
        for (name, text) in BUILTIN {
            dashboards
                .add(&format!("builtin:{name}.yaml"), text)
                .expect("a test reads each shipped dashboard");
        }
        dashboards
    }

    /// Reads a file and adds its dashboard under the file's name without folder and ending, replacing one of that name. A
    /// file that ends in `.json` is Grafana's.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn add(&mut self, file: &str, text: &str) -> Result<(), YamlError> {
        let entry = Entry {
            dashboard: read_dashboard(file, text)?,
            file: file.to_owned(),
            text: text.to_owned(),
        };
        self.all.insert(name_of(file).to_owned(), entry);
        Ok(())
    }

    /// Returns the dashboard of that name.
    pub fn get(&self, name: &str) -> Option<&Dashboard> {
        self.entry(name).map(|entry| &entry.dashboard)
    }

    /// Returns the dashboard of that name with what it was read from.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.all.get(name)
    }

    /// Returns all, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Dashboard)> {
        self.all.iter().map(|(name, entry)| (name.as_str(), &entry.dashboard))
    }

    /// Returns a line for each, sorted by title.
    pub fn summaries(&self) -> Vec<Summary<'_>> {
        let line = |(name, entry): (&'_ String, &'_ Entry)| {
            let origin = match entry.file.starts_with("builtin:") {
                true => "builtin",
                false if entry.is_foreign() => "grafana",
                false => "file",
            };
            (name.clone(), origin)
        };
        let origins: BTreeMap<String, &'static str> = self.all.iter().map(line).collect();
        let mut lines: Vec<Summary<'_>> = self
            .iter()
            .map(|(name, dashboard)| Summary {
                name,
                title: &dashboard.title,
                description: &dashboard.description,
                panels: dashboard.rows.iter().map(|row| row.panels.len()).sum(),
                origin: origins[name],
                notes: dashboard.notes.len(),
            })
            .collect();
        lines.sort_by_key(|line| line.title);
        lines
    }
}

fn is_json(file: &str) -> bool {
    Path::new(file)
        .extension()
        .is_some_and(|ending| ending.eq_ignore_ascii_case("json"))
}

/// Reads a dashboard: ours, or Grafana's when the file ends in `.json`.
///
/// # Errors
/// What is wrong, and where.
pub fn read_dashboard(file: &str, text: &str) -> Result<Dashboard, YamlError> {
    if !is_json(file) {
        return parse(file, text);
    }
    let found = super::grafana::import(text).map_err(|(reason, line, column)| YamlError {
        file: file.to_owned(),
        line,
        column,
        snippet: text.lines().nth(line.wrapping_sub(1)).unwrap_or("").to_owned(),
        reason,
        suggestion: None,
    })?;
    Ok(found)
}

fn name_of(file: &str) -> &str {
    let file = file.rsplit(['/', ':']).next().unwrap_or(file);
    file.strip_suffix(".yaml")
        .or_else(|| file.strip_suffix(".json"))
        .or_else(|| file.strip_suffix(".yml"))
        .unwrap_or(file)
}

fn parse(file: &str, text: &str) -> Result<Dashboard, YamlError> {
    let dashboard: Dashboard = yaml::read(file, text)?;
    let panels: usize = dashboard.rows.iter().map(|row| row.panels.len()).sum();
    if panels > PANELS_MAX {
        return Err(YamlError {
            file: file.to_owned(),
            line: 0,
            column: 0,
            reason: format!("{panels} panels; a dashboard may have {PANELS_MAX}"),
            suggestion: None,
            snippet: String::new(),
        });
    }
    check_queries(file, text, &dashboard)?;
    check_repeats(file, text, &dashboard)?;
    Ok(dashboard)
}

/// Each `repeat` names a variable.
fn check_repeats(file: &str, text: &str, dashboard: &Dashboard) -> Result<(), YamlError> {
    let rows = dashboard.rows.iter().filter_map(|row| row.repeat.as_ref());
    let panels = dashboard.rows.iter().flat_map(|row| &row.panels);
    let unknown = rows
        .chain(panels.filter_map(|panel| panel.repeat.as_ref()))
        .find(|name| !dashboard.vars.iter().any(|(known, _)| known == *name));
    let Some(name) = unknown else { return Ok(()) };
    let line = text
        .lines()
        .position(|line| line.contains("repeat") && line.contains(name.as_str()));
    let known = dashboard.vars.iter().map(|(name, _)| name.as_str());
    Err(YamlError {
        file: file.to_owned(),
        line: line.map_or(0, |line| line + 1),
        column: usize::from(line.is_some()),
        reason: format!("repeat: there is no variable {name:?}"),
        suggestion: yaml::nearest(name, known).map(str::to_owned),
        snippet: line.and_then(|line| text.lines().nth(line)).unwrap_or("").to_owned(),
    })
}

/// Parses each query and selector, with values put in place of the variables as the page will do.
fn check_queries(file: &str, text: &str, dashboard: &Dashboard) -> Result<(), YamlError> {
    let panels = dashboard.rows.iter().flat_map(|row| &row.panels);
    let queries = panels.flat_map(|panel| {
        panel
            .queries
            .iter()
            .map(move |query| (panel.title.as_str(), &query.query))
    });
    let marks = dashboard.annotations.iter().map(|one| (one.title.as_str(), &one.query));
    let selectors = dashboard
        .vars
        .iter()
        .filter_map(|(name, variable)| Some((name.as_str(), variable.from.as_ref()?)));
    for (owner, query) in queries.chain(marks).chain(selectors) {
        let reason = match substitute(query, &dashboard.vars) {
            Ok(whole) => match crate::query::parse(&whole) {
                Ok(_) => continue,
                Err(error) => format!("{owner:?}: {error}\n{whole}"),
            },
            Err(unknown) => format!("{owner:?}: the query says ${unknown}, and there is no such variable"),
        };
        let (line, column, snippet) = place(text, query);
        return Err(YamlError {
            file: file.to_owned(),
            line,
            column,
            reason,
            suggestion: None,
            snippet,
        });
    }
    Ok(())
}

/// Puts an example in place of each `$name` and `${name}`; what is no name (`$1` of a replacement) stays.
///
/// # Errors
/// A name that no variable has.
pub(super) fn substitute(query: &str, vars: &[(String, Variable)]) -> Result<String, String> {
    let mut out = String::with_capacity(query.len());
    let mut rest = query;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let (body, braced) = after.strip_prefix('{').map_or((after, 0), |body| (body, 2));
        let length = body
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(body.len());
        let name = &body[..length];
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !is_name || (braced > 0 && !body[length..].starts_with('}')) {
            out.push('$');
            rest = after;
            continue;
        }
        out.push_str(example(name, vars).ok_or_else(|| name.to_owned())?);
        rest = &after[length + braced..];
    }
    out.push_str(rest);
    Ok(out)
}

fn example<'a>(name: &str, vars: &'a [(String, Variable)]) -> Option<&'a str> {
    match name {
        "__interval" | "__rate_interval" | "__range" => return Some("1m"),
        "__interval_ms" | "__range_ms" | "__range_s" | "__from" | "__to" => return Some("60000"),
        _ => {}
    }
    let (_, variable) = vars.iter().find(|(known, _)| known == name)?;
    let chosen = variable
        .default
        .as_deref()
        .or(variable.options.first().map(String::as_str));
    Some(chosen.unwrap_or("x"))
}

/// Finds the line of the file in which a query begins; 0 when it is written in a way that hides it.
fn place(text: &str, query: &str) -> (usize, usize, String) {
    let begin: String = query.chars().take(24).collect();
    let found = text
        .lines()
        .enumerate()
        .find_map(|(index, line)| Some((index, line.find(&begin)?, line)));
    found.map_or((0, 0, String::new()), |(index, at, line)| {
        (index + 1, at + 1, line.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::{Level, PanelKind};

    #[test]
    fn every_shipped_dashboard_reads() {
        let all = Dashboards::builtin();
        assert_eq!(all.summaries().len(), BUILTIN.len());
        assert!(
            all.summaries()
                .iter()
                .all(|line| line.panels > 3 && !line.description.is_empty())
        );
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let text = "title: T\nrows:\n- panels:\n  - {title: A, query: up}\n  - {kind: stat, query: up, thresholds: {bad: 0, ok: 1}}";
        let dashboard = parse("t.yaml", text).unwrap();
        let panels = &dashboard.rows[0].panels;
        assert_eq!(
            (panels[0].kind, panels[0].width, panels[1].width),
            (PanelKind::Timeseries, 6, 3)
        );
        assert_eq!(panels[1].thresholds.0, [(0.0, Level::Bad), (1.0, Level::Ok)]);
        assert_eq!(dashboard.refresh.to_string(), "15s");
    }

    #[test]
    fn variables_keep_the_order_of_the_file() {
        let text = "title: T\nvars:\n  z: {label: job, from: up}\n  a: {options: [1m, 5m]}\nrows: []";
        let dashboard = parse("t.yaml", text).unwrap();
        let names: Vec<&str> = dashboard.vars.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["z", "a"]);
        let json = serde_json::to_value(&dashboard).unwrap();
        assert_eq!(
            json["vars"][0],
            serde_json::json!({"name": "z", "title": "", "label": "job", "from": "up", "all": false})
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, line, reason) in [
            ("title: T\nrows:\n- panels:\n  - {title: A, qery: up}", 4, "qery"),
            ("title: T\nrows:\n- panels:\n  - {title: A}", 4, "no \"query\""),
            (
                "title: T\nrows:\n- panels:\n  - {query: up, width: 13}",
                4,
                "12 columns",
            ),
            (
                "title: T\nrows:\n- panels:\n  - {kind: gauge, query: up}",
                4,
                "\"min\" and \"max\"",
            ),
            ("title: T\nrows:\n- panels:\n  - {kind: pie, query: up}", 4, "pie"),
            (
                "title: T\nvars:\n  a: {label: job}\nrows: []",
                3,
                "\"label\" and \"from\"",
            ),
            ("title: T\nrows: []\ncolour: red", 3, "colour"),
        ] {
            let error = parse("d/t.yaml", text).unwrap_err();
            assert!(error.reason.contains(reason), "{error}");
            assert_eq!(error.line, line, "{error}");
            assert!(error.to_string().starts_with("d/t.yaml:"), "{error}");
        }
    }

    #[test]
    fn a_query_that_cannot_be_read_is_shown_at_its_line() {
        let text =
            "title: T\nvars:\n  step: {options: [5m]}\nrows:\n- panels:\n  - title: A\n    query: rate(x[$step]\n";
        let error = parse("t.yaml", text).unwrap_err();
        assert_eq!((error.line, error.column), (7, 12), "{error}");
        assert!(
            error.reason.contains("rate(x[5m]") && error.reason.contains("parse error"),
            "{error}"
        );
        let error = parse("t.yaml", &text.replace("[$step]", "[$stop])")).unwrap_err();
        assert!(error.reason.contains("$stop"), "{error}");
    }

    #[test]
    fn variables_are_replaced_and_references_are_not() {
        let vars = parse("t.yaml", "title: T\nvars:\n  job: {label: job, from: up}\nrows: []")
            .unwrap()
            .vars;
        let query = r#"label_replace(up{job=~"$job",x=~"a$"}, "a", "$1", "b", "${job}(.*)")"#;
        let whole = r#"label_replace(up{job=~"x",x=~"a$"}, "a", "$1", "b", "x(.*)")"#;
        assert_eq!(substitute(query, &vars).unwrap(), whole);
    }

    #[test]
    fn a_file_gives_its_dashboard_the_name() {
        for (file, name) in [
            ("dashboards/api.yaml", "api"),
            ("builtin:host.yaml", "host"),
            ("a.b.yml", "a.b"),
        ] {
            assert_eq!(name_of(file), name);
        }
    }
}
