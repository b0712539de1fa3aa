//! The routing tree: read, checked, inherited and numbered.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::super::matchers::{format_matchers, parse_matchers, sort};
use super::flaw::Flaw;
use super::scalar::Text;
use crate::model::{Interval, Labels, MatchOp, Matcher};

/// How deep routes may nest.
const DEPTH_MAX: usize = 64;

/// One route as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRoute {
    receiver: Option<Text>,
    group_by: Option<Vec<Text>>,
    #[serde(default)]
    matchers: Matchers,
    r#match: Option<BTreeMap<String, Text>>,
    match_re: Option<BTreeMap<String, Pattern>>,
    #[serde(default)]
    r#continue: bool,
    routes: Option<Vec<RawRoute>>,
    group_wait: Option<Interval>,
    group_interval: Option<Interval>,
    repeat_interval: Option<Interval>,
    mute_time_intervals: Option<Vec<Text>>,
    active_time_intervals: Option<Vec<Text>>,
    labels: Option<BTreeMap<String, Text>>,
    group_urgent: Option<Matchers>,
}

/// A list of matcher texts, each of which may hold several; sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Matchers(pub(crate) Vec<Matcher>);

impl<'de> Deserialize<'de> for Matchers {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let lines = Option::<OneOrMore>::deserialize(deserializer)?.unwrap_or_default();
        let mut matchers: Vec<Matcher> = lines.0.into_iter().flat_map(|line| line.0).collect();
        sort(&mut matchers);
        Ok(Matchers(matchers))
    }
}

/// A list, or one text.
#[derive(Default)]
struct OneOrMore(Vec<MatcherLine>);

impl<'de> Deserialize<'de> for OneOrMore {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = OneOrMore;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of matchers")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<OneOrMore, E> {
                let matchers = parse_matchers(text).map_err(E::custom)?;
                Ok(OneOrMore(vec![MatcherLine(matchers)]))
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<OneOrMore, A::Error> {
                let mut lines = Vec::new();
                while let Some(line) = seq.next_element()? {
                    lines.push(line);
                }
                Ok(OneOrMore(lines))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

struct MatcherLine(Vec<Matcher>);

impl<'de> Deserialize<'de> for MatcherLine {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Text::deserialize(deserializer)?;
        parse_matchers(&text.0)
            .map(MatcherLine)
            .map_err(serde::de::Error::custom)
    }
}

/// A regular expression, compiled while its place in the file is known.
#[derive(Debug)]
pub(super) struct Pattern(String);

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Text::deserialize(deserializer)?;
        Matcher::new("x", MatchOp::Regex, text.0.clone()).map_err(serde::de::Error::custom)?;
        Ok(Pattern(text.0))
    }
}

/// Builds the deprecated `match` and `match_re` into matchers.
pub(super) fn legacy(
    equal: Option<BTreeMap<String, Text>>,
    regex: Option<BTreeMap<String, Pattern>>,
) -> impl Iterator<Item = Matcher> {
    let equal = equal
        .unwrap_or_default()
        .into_iter()
        .map(|(name, value)| Matcher::equal(name, value.0));
    let regex = regex.unwrap_or_default().into_iter().map(|(name, Pattern(pattern))| {
        Matcher::new(name, MatchOp::Regex, pattern).expect("the pattern was compiled when it was read")
    });
    equal.chain(regex)
}

/// Which labels make a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GroupBy {
    /// `...`: each alert is its own group.
    All,
    /// These labels.
    Labels(Vec<String>),
}

/// One route, with everything it inherits.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// Unique in the tree: the key and the place among the siblings.
    pub(crate) id: String,
    /// Alertmanager's key: the matchers from the root to here.
    pub(crate) key: String,
    /// Where it stands in the file: `route.routes[1]`.
    pub(crate) path: String,
    /// Who is told.
    pub(crate) receiver: String,
    /// What is told together.
    pub(crate) group_by: GroupBy,
    /// How long a new group waits for company.
    pub(crate) group_wait: Interval,
    /// How often a group looks for news.
    pub(crate) group_interval: Interval,
    /// How long until the same is told again.
    pub(crate) repeat_interval: Interval,
    /// Times in which nobody is told.
    pub(crate) mute: Vec<String>,
    /// When not empty: the only times in which somebody is told.
    pub(crate) active: Vec<String>,
    /// Labels for templates, themselves templates.
    pub(crate) labels: BTreeMap<String, String>,
    /// A new alert that these match makes its group look at once; empty = none does.
    pub(crate) group_urgent: Vec<Matcher>,
    matchers: Vec<Matcher>,
    go_on: bool,
    children: Vec<usize>,
}

/// The place among the siblings, as it stands in records: `/1/0` for `route.routes[1].routes[0]`.
fn place(path: &str) -> String {
    let numbers = path.split('[').skip(1).filter_map(|part| part.split(']').next());
    numbers.map(|number| format!("/{number}")).collect()
}

/// The routing tree. Routes are known by their number; the root is 0.
#[derive(Clone, Debug)]
pub(crate) struct RouteTree {
    routes: Vec<Route>,
}

impl RouteTree {
    /// A tree that leads everything to one receiver.
    pub(crate) fn single(receiver: &str) -> RouteTree {
        let raw = RawRoute {
            receiver: Some(Text(receiver.to_owned())),
            ..RawRoute::default()
        };
        RouteTree::build(raw).expect("a root with nothing but a receiver is a tree")
    }

    /// Checks a tree and spreads what is inherited.
    ///
    /// # Errors
    /// A text, in Alertmanager's words where it has some.
    pub(super) fn build(raw: RawRoute) -> Result<RouteTree, Flaw> {
        let root = |reason: &str| Flaw::at("route", reason);
        if raw.receiver.as_ref().is_none_or(|name| name.0.is_empty()) {
            return Err(root("root route must specify a default receiver"));
        }
        if !raw.matchers.0.is_empty() || raw.r#match.is_some() || raw.match_re.is_some() {
            return Err(root("root route must not have any matchers"));
        }
        if raw.mute_time_intervals.as_ref().is_some_and(|names| !names.is_empty()) {
            return Err(root("root route must not have any mute time intervals"));
        }
        if raw
            .active_time_intervals
            .as_ref()
            .is_some_and(|names| !names.is_empty())
        {
            return Err(root("root route must not have any active time intervals"));
        }
        let mut tree = RouteTree { routes: Vec::new() };
        tree.add(raw, None, "route".to_owned(), 0)?;
        Ok(tree)
    }

    fn add(&mut self, raw: RawRoute, parent: Option<usize>, path: String, depth: usize) -> Result<usize, Flaw> {
        let flaw = |reason: String| Flaw {
            path: path.clone(),
            reason,
        };
        if depth > DEPTH_MAX {
            return Err(flaw(format!("routes nest deeper than {DEPTH_MAX} levels")));
        }
        let parent = parent.map(|index| self.routes[index].clone());
        let inherit = |own: Option<Interval>, of: fn(&Route) -> Interval, default: Interval| {
            own.unwrap_or_else(|| parent.as_ref().map_or(default, of))
        };
        let mut matchers = raw.matchers.0;
        matchers.extend(legacy(raw.r#match, raw.match_re));
        sort(&mut matchers);
        let key = match &parent {
            None => format_matchers(&matchers),
            Some(parent) => format!("{}/{}", parent.key, format_matchers(&matchers)),
        };
        let mut labels = parent.as_ref().map(|parent| parent.labels.clone()).unwrap_or_default();
        labels.extend(
            raw.labels
                .unwrap_or_default()
                .into_iter()
                .map(|(name, text)| (name, text.0)),
        );
        let receiver = raw.receiver.map(|name| name.0).filter(|name| !name.is_empty());
        let route = Route {
            id: format!("{key}{}", place(&path)),
            path: path.clone(),
            receiver: receiver
                .or_else(|| parent.as_ref().map(|parent| parent.receiver.clone()))
                .expect("the root has a receiver"),
            group_by: match raw.group_by {
                Some(names) => group_by(names).map_err(|reason| flaw(format!("group_by: {reason}")))?,
                None => parent
                    .as_ref()
                    .map_or(GroupBy::Labels(Vec::new()), |parent| parent.group_by.clone()),
            },
            group_wait: inherit(raw.group_wait, |route| route.group_wait, Interval::secs(30)),
            group_interval: inherit(raw.group_interval, |route| route.group_interval, Interval::mins(5)),
            repeat_interval: inherit(raw.repeat_interval, |route| route.repeat_interval, Interval::hours(4)),
            mute: raw
                .mute_time_intervals
                .unwrap_or_default()
                .into_iter()
                .map(|name| name.0)
                .collect(),
            active: raw
                .active_time_intervals
                .unwrap_or_default()
                .into_iter()
                .map(|name| name.0)
                .collect(),
            labels,
            group_urgent: match raw.group_urgent {
                Some(matchers) => matchers.0,
                None => parent
                    .as_ref()
                    .map(|parent| parent.group_urgent.clone())
                    .unwrap_or_default(),
            },
            matchers,
            go_on: raw.r#continue,
            children: Vec::new(),
            key,
        };
        if route.group_interval.0 <= 0 {
            return Err(flaw("group_interval cannot be zero".to_owned()));
        }
        if route.repeat_interval.0 <= 0 {
            return Err(flaw("repeat_interval cannot be zero".to_owned()));
        }
        let index = self.routes.len();
        self.routes.push(route);
        for (number, child) in raw.routes.unwrap_or_default().into_iter().enumerate() {
            let child = self.add(child, Some(index), format!("{path}.routes[{number}]"), depth + 1)?;
            self.routes[index].children.push(child);
        }
        Ok(index)
    }

    /// Returns the routes, in the order of the file.
    pub(crate) fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// Returns the numbers of the routes that an alert takes, in order.
    pub(crate) fn matching(&self, labels: &Labels) -> Vec<usize> {
        let mut found = Vec::new();
        self.descend(0, labels, &mut found);
        found
    }

    /// Whether the route takes the alert; it is then in `found`, or its children are.
    fn descend(&self, index: usize, labels: &Labels, found: &mut Vec<usize>) -> bool {
        let route = &self.routes[index];
        if !route
            .matchers
            .iter()
            .all(|matcher| matcher.matches(labels.value(&matcher.name)))
        {
            return false;
        }
        let before = found.len();
        for child in &route.children {
            if self.descend(*child, labels, found) && !self.routes[*child].go_on {
                break;
            }
        }
        if found.len() == before {
            found.push(index);
        }
        true
    }
}

impl GroupBy {
    /// Returns the labels as written: `...` for all.
    pub(crate) fn names(&self) -> Vec<String> {
        match self {
            GroupBy::All => vec!["...".to_owned()],
            GroupBy::Labels(names) => names.clone(),
        }
    }
}

impl Route {
    /// Returns the route's own matchers.
    pub(crate) fn matchers(&self) -> &[Matcher] {
        &self.matchers
    }

    /// Returns the numbers of the routes below.
    pub(crate) fn children(&self) -> &[usize] {
        &self.children
    }

    /// Whether its later siblings see an alert that it took.
    pub(crate) fn goes_on(&self) -> bool {
        self.go_on
    }

    /// How much too early a repetition may come, so that a tick a hair short of the interval does not cost a whole further one.
    pub(crate) fn slack(&self) -> Interval {
        Interval((self.group_interval.0 / 10).min(1000))
    }

    /// Whether a new alert with these labels is not to wait for the group's next look.
    pub(crate) fn is_urgent(&self, labels: &Labels) -> bool {
        !self.group_urgent.is_empty()
            && self
                .group_urgent
                .iter()
                .all(|matcher| matcher.matches(labels.value(&matcher.name)))
    }

    /// Returns the labels that name the alert's group.
    pub(crate) fn group_labels(&self, labels: &Labels) -> Labels {
        match &self.group_by {
            GroupBy::All => labels.clone(),
            GroupBy::Labels(names) => labels.filtered(|name| names.iter().any(|wanted| wanted == name)),
        }
    }
}

fn group_by(names: Vec<Text>) -> Result<GroupBy, String> {
    let names: Vec<String> = names.into_iter().map(|name| name.0).collect();
    if names.iter().any(|name| name == "...") {
        return if names.len() == 1 {
            Ok(GroupBy::All)
        } else {
            Err("cannot have wildcard group_by (`...`) and other labels at the same time".to_owned())
        };
    }
    let mut seen = std::collections::BTreeSet::new();
    for name in &names {
        if name.is_empty() {
            return Err("invalid label name \"\" in group_by list".to_owned());
        }
        if !seen.insert(name) {
            return Err(format!("duplicated label {name:?} in group_by"));
        }
    }
    Ok(GroupBy::Labels(names))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(yaml: &str) -> Result<RouteTree, String> {
        RouteTree::build(serde_yaml::from_str(yaml).map_err(|error| error.to_string())?).map_err(|flaw| flaw.reason)
    }

    fn receivers<'a>(tree: &'a RouteTree, labels: &[(&str, &str)]) -> Vec<&'a str> {
        let labels = Labels::from_pairs(labels.iter().copied());
        tree.matching(&labels)
            .into_iter()
            .map(|index| tree.routes()[index].receiver.as_str())
            .collect()
    }

    #[test]
    fn the_first_matching_child_wins_unless_it_continues() {
        let tree = tree(
            "receiver: all\nroutes:\n- {matchers: [a=1], receiver: first, continue: true}\n\
             - {match: {b: 2}, receiver: second, routes: [{match_re: {c: 'x.*'}, receiver: deep}]}\n\
             - {matchers: ['{a=~\"1|2\"}'], receiver: third}\n",
        )
        .unwrap();
        assert_eq!(receivers(&tree, &[]), ["all"]);
        assert_eq!(receivers(&tree, &[("a", "1")]), ["first", "third"]);
        assert_eq!(receivers(&tree, &[("a", "1"), ("b", "2")]), ["first", "second"]);
        assert_eq!(receivers(&tree, &[("b", "2"), ("c", "xy")]), ["deep"]);
        assert_eq!(receivers(&tree, &[("a", "2")]), ["third"]);
    }

    #[test]
    fn keys_and_intervals_come_down_from_the_root() {
        let tree = tree(
            "receiver: r\ngroup_by: [alertname]\ngroup_wait: 1s\nlabels: {x: a, y: b}\n\
             routes:\n- {matchers: [b=1, a=~2], repeat_interval: 1h, labels: {y: c}}\n- {matchers: [b=1, a=~2], group_by: []}\n",
        )
        .unwrap();
        let [_, first, second] = tree.routes() else {
            panic!("three routes")
        };
        assert_eq!(first.key, r#"{}/{a=~"2",b="1"}"#);
        assert_eq!((first.key == second.key, first.id == second.id), (true, false));
        assert_eq!(
            (first.group_wait, first.group_interval),
            (Interval::secs(1), Interval::mins(5))
        );
        assert_eq!(first.repeat_interval, Interval::hours(1));
        assert_eq!(first.group_by, GroupBy::Labels(vec!["alertname".to_owned()]));
        assert_eq!(second.group_by, GroupBy::Labels(vec![]));
        assert_eq!(first.labels["x"].clone() + &first.labels["y"], "ac");
    }

    #[test]
    fn a_tree_that_alertmanager_refuses_is_refused() {
        for (yaml, reason) in [
            ("{}", "default receiver"),
            ("{receiver: a, matchers: [a=b]}", "must not have any matchers"),
            ("{receiver: a, mute_time_intervals: [x]}", "mute time intervals"),
            ("{receiver: a, group_by: [a, a]}", "duplicated label"),
            ("{receiver: a, group_by: [a, '...']}", "wildcard"),
            ("{receiver: a, group_interval: 0s}", "group_interval cannot be zero"),
            ("{receiver: a, routes: [{match_re: {a: '('}}]}", "regular expression"),
            ("{receiver: a, group_wiat: 1s}", "unknown field"),
            ("{receiver: a, group_urgent: 'severity'}", "severity"),
        ] {
            let error = tree(yaml).expect_err(yaml);
            assert!(error.contains(reason), "{yaml}: {error}");
        }
    }
}
