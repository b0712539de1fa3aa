//! A dashboard as the YAML that people write: what has its default is left out, and reading it back gives the same.

use serde_yaml::{Mapping, Value};

use super::dashboard::{Annotation, Dashboard, Level, Panel, PanelKind, Query, Row, Thresholds, Variable};

/// Returns the dashboard as YAML. Its notes become comments at the top.
///
/// # Panics
/// Never: a map of texts, numbers and lists can always be written.
pub fn to_yaml(dashboard: &Dashboard) -> String {
    let mut map = Mapping::new();
    put(&mut map, "title", dashboard.title.as_str());
    text(&mut map, "description", &dashboard.description);
    put(&mut map, "range", dashboard.range.to_string());
    put(&mut map, "refresh", dashboard.refresh.to_string());
    let vars: Mapping = dashboard
        .vars
        .iter()
        .map(|(name, one)| (Value::from(name.as_str()), Value::Mapping(variable(one))))
        .collect();
    if !vars.is_empty() {
        put(&mut map, "vars", vars);
    }
    list(&mut map, "annotations", dashboard.annotations.iter().map(annotation));
    put(&mut map, "rows", dashboard.rows.iter().map(row).collect::<Vec<_>>());
    let notes = dashboard.notes.iter().flat_map(|note| note.lines());
    let notes: String = notes.map(|note| format!("# not taken over: {note}\n")).collect();
    notes + &serde_yaml::to_string(&map).expect("texts, numbers and lists can be written")
}

fn put(map: &mut Mapping, key: &str, value: impl Into<Value>) {
    map.insert(Value::from(key), value.into());
}

fn text(map: &mut Mapping, key: &str, value: &str) {
    if !value.is_empty() {
        put(map, key, value);
    }
}

fn flag(map: &mut Mapping, key: &str, value: bool) {
    if value {
        put(map, key, true);
    }
}

fn list(map: &mut Mapping, key: &str, items: impl Iterator<Item = Mapping>) {
    let items: Vec<Value> = items.map(Value::Mapping).collect();
    if !items.is_empty() {
        put(map, key, items);
    }
}

fn variable(variable: &Variable) -> Mapping {
    let mut map = Mapping::new();
    text(&mut map, "title", &variable.title);
    for (key, value) in [
        ("label", &variable.label),
        ("from", &variable.from),
        ("regex", &variable.regex),
        ("default", &variable.default),
    ] {
        if let Some(value) = value {
            put(&mut map, key, value.as_str());
        }
    }
    if !variable.options.is_empty() {
        put(&mut map, "options", variable.options.clone());
    }
    flag(&mut map, "all", variable.all);
    flag(&mut map, "multi", variable.multi);
    flag(&mut map, "free", variable.free);
    map
}

fn annotation(one: &Annotation) -> Mapping {
    let mut map = Mapping::new();
    put(&mut map, "title", one.title.as_str());
    put(&mut map, "query", one.query.as_str());
    text(&mut map, "legend", &one.legend);
    map
}

fn row(row: &Row) -> Value {
    let mut map = Mapping::new();
    text(&mut map, "title", &row.title);
    if let Some(name) = &row.repeat {
        put(&mut map, "repeat", name.as_str());
    }
    flag(&mut map, "folded", row.folded);
    let panels: Vec<Value> = row.panels.iter().map(|one| Value::Mapping(panel(one))).collect();
    put(&mut map, "panels", panels);
    Value::Mapping(map)
}

fn panel(panel: &Panel) -> Mapping {
    let mut map = Mapping::new();
    text(&mut map, "title", &panel.title);
    text(&mut map, "description", &panel.description);
    if panel.kind != PanelKind::Timeseries {
        put(&mut map, "kind", panel.kind.name());
    }
    match panel.queries.as_slice() {
        [one] => query_into(&mut map, one),
        more => list(&mut map, "queries", more.iter().map(query)),
    }
    text(&mut map, "unit", &panel.unit);
    if let Some(decimals) = panel.decimals {
        put(&mut map, "decimals", u64::from(decimals));
    }
    for (key, value) in [("min", panel.min), ("max", panel.max)] {
        if let Some(value) = value {
            put(&mut map, key, value);
        }
    }
    flag(&mut map, "stack", panel.stack);
    if !panel.thresholds.0.is_empty() {
        put(&mut map, "thresholds", thresholds(&panel.thresholds));
    }
    put(&mut map, "width", u64::from(panel.width));
    if let Some(name) = &panel.repeat {
        put(&mut map, "repeat", name.as_str());
    }
    text(&mut map, "text", &panel.text);
    map
}

fn query(one: &Query) -> Mapping {
    let mut map = Mapping::new();
    query_into(&mut map, one);
    map
}

fn query_into(map: &mut Mapping, one: &Query) {
    put(map, "query", one.query.as_str());
    text(map, "legend", &one.legend);
}

fn thresholds(thresholds: &Thresholds) -> Mapping {
    let name = |level: Level| match level {
        Level::Ok => "ok",
        Level::Warn => "warn",
        Level::Bad => "bad",
    };
    let steps = thresholds.0.iter();
    steps
        .map(|(from, level)| (Value::from(name(*level)), Value::from(*from)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::{Dashboards, read_dashboard};

    #[test]
    fn what_is_written_reads_back_as_the_same() {
        let all = Dashboards::builtin();
        for (name, dashboard) in all.iter() {
            let text = to_yaml(dashboard);
            assert_eq!(
                read_dashboard("x.yaml", &text).as_ref(),
                Ok(dashboard),
                "{name}:\n{text}"
            );
        }
    }

    #[test]
    fn every_key_survives() {
        let text = "title: T\nvars:\n  a: {label: job, from: up, regex: 'x(.*)', all: true, multi: true}\n  b: {free: true, default: q}\n\
            annotations:\n- {title: D, query: up == 0, legend: '{{job}}'}\nrows:\n- title: R\n  repeat: a\n  folded: true\n  panels:\n\
            \x20 - {title: P, kind: heatmap, query: up, unit: s, decimals: 1, min: 0, max: 2.5, width: 4, repeat: a}\n\
            \x20 - {kind: bar, queries: [{query: up}, {query: 'down', legend: x}], thresholds: {bad: 0, ok: 1}}\n";
        let dashboard = read_dashboard("x.yaml", text).unwrap();
        assert_eq!(read_dashboard("x.yaml", &to_yaml(&dashboard)), Ok(dashboard));
    }
}
