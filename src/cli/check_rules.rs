//! `campanile check rules`: are these rule files in order?

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::server::{Server, ServerArgs, talk};

use crate::io::disk::OsDisk;
use crate::io::files;
use crate::rules::{BUILTIN_RULES, Known, RuleFile, RuleFileSource, lint, lint_live, questions};

/// Check rule files: exit code 0 when all can be loaded.
#[derive(Debug, Args)]
pub(crate) struct CheckRulesArgs {
    /// Rule files or patterns; `builtin:` stands for the rules that come with the server.
    #[arg(required = true)]
    files: Vec<String>,
    /// Count advice as mistakes.
    #[arg(long)]
    strict: bool,
    /// Give no advice.
    #[arg(long, conflicts_with = "strict")]
    no_lint: bool,
    /// Hold the rules against this server's metrics, labels and types, too.
    #[arg(long)]
    live: Option<String>,
    /// A file with the bearer token for it.
    #[arg(long, requires = "live")]
    token_file: Option<PathBuf>,
}

/// Runs the check.
pub(super) fn run(args: &CheckRulesArgs) -> ExitCode {
    let mut good = true;
    let mut files = Vec::new();
    for pattern in &args.files {
        for source in sources(pattern) {
            good &= match source {
                Ok(source) => {
                    files.extend(RuleFile::read(&source));
                    check(args, &source)
                }
                Err(error) => {
                    eprintln!("{error}");
                    false
                }
            };
        }
    }
    if let Some(url) = &args.live {
        good &= check_live(args, url, &files);
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn check_live(args: &CheckRulesArgs, url: &str, files: &[RuleFile]) -> bool {
    let server = ServerArgs {
        url: url.to_owned(),
        token_file: args.token_file.clone(),
    };
    println!("Checking against {url}");
    match talk(&server, async |server| known(&server, files).await) {
        Ok(known) => {
            let advice = lint_live(files, &known);
            for line in &advice {
                println!("  advice: {line}");
            }
            !(args.strict && !advice.is_empty())
        }
        Err(error) => {
            eprintln!("  {error}");
            false
        }
    }
}

/// Asks the server for what the rules speak of.
async fn known(server: &Server<'_>, files: &[RuleFile]) -> Result<Known, String> {
    let (metrics, labels) = questions(files);
    let texts = |json: &Value| -> std::collections::BTreeSet<String> {
        let list = json.as_array().into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut known = Known {
        metrics: texts(&server.get("/api/v1/label/__name__/values", &[]).await?),
        ..Known::default()
    };
    let metadata = server.get("/api/v1/metadata", &[]).await?;
    for (name, entries) in metadata.as_object().into_iter().flatten() {
        if let Some(kind) = entries[0]["type"].as_str() {
            known.types.insert(name.clone(), kind.to_owned());
        }
    }
    for name in metrics {
        if known.metrics.contains(&name) {
            let matching = format!("{{__name__={name:?}}}");
            let labels = server.get("/api/v1/labels", &[("match[]", &matching)]).await?;
            known.labels.insert(name, texts(&labels));
        }
    }
    for label in labels {
        let values = server.get(&format!("/api/v1/label/{label}/values"), &[]).await?;
        let count = values.as_array().map_or(0, Vec::len);
        known.values.insert(label, count);
    }
    Ok(known)
}

/// Finds and reads the files of a pattern.
pub(super) fn sources(pattern: &str) -> Vec<Result<RuleFileSource, String>> {
    if pattern == "builtin:" {
        let builtin = BUILTIN_RULES.iter().map(|(path, text)| RuleFileSource {
            path: (*path).to_owned(),
            text: (*text).to_owned(),
        });
        return builtin.map(Ok).collect();
    }
    let paths = match files::glob(&OsDisk, Path::new(pattern)) {
        Ok(paths) if paths.is_empty() => return vec![Err(format!("{pattern}: no file matches"))],
        Ok(paths) => paths,
        Err(error) => return vec![Err(format!("{pattern}: {error}"))],
    };
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Result<RuleFileSource, String> {
    let text = files::read_text(&OsDisk, path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(RuleFileSource {
        path: path.display().to_string(),
        text,
    })
}

fn check(args: &CheckRulesArgs, source: &RuleFileSource) -> bool {
    println!("Checking {}", source.path);
    let file = match RuleFile::read(source) {
        Ok(file) => file,
        Err(error) => {
            eprintln!("  FAILED:\n{}\n", error.with_snippet());
            return false;
        }
    };
    let rules: usize = file.groups.iter().map(|group| group.rules.len()).sum();
    println!("  SUCCESS: {rules} rules found");
    if args.no_lint {
        return true;
    }
    let advice = lint(&file);
    for line in &advice {
        println!("  advice: {line}");
    }
    !(args.strict && !advice.is_empty())
}
