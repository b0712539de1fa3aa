//! `campanile check rules`: are these rule files in order?

use std::path::Path;
use std::process::ExitCode;

use clap::Args;

use crate::io::disk::OsDisk;
use crate::io::files;
use crate::rules::{BUILTIN_RULES, RuleFile, RuleFileSource, lint};

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
}

/// Runs the check.
pub(super) fn run(args: &CheckRulesArgs) -> ExitCode {
    let mut good = true;
    for pattern in &args.files {
        for source in sources(pattern) {
            good &= match source {
                Ok(source) => check(args, &source),
                Err(error) => {
                    eprintln!("{error}");
                    false
                }
            };
        }
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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
