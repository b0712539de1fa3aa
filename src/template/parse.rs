//! From tokens to trees, and the set of named templates that a text and its `define`s make up.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::functions::Functions;
use super::lex::{Lexeme, Token, lex};
use super::literal::{checked_number, show, unquote, unquote_char};
use super::node::{Branch, BranchKind, Command, List, Node, Operand, Pipe, Pos, Term};
use super::number::quote;

/// How deep actions and parentheses may nest.
const NESTING_MAX: usize = 100;
/// The longest template text, in bytes.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// Why a text is no template; the wording is Go's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("template: {name}:{line}: {reason}")]
pub struct ParseError {
    /// The template's name.
    pub name: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub reason: String,
}

/// One named template.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) name: String,
    /// The name of the text it was parsed from.
    pub(super) source: String,
    /// That text: positions point into it.
    pub(super) text: Arc<str>,
    pub(super) list: List,
}

/// Templates that can call each other, and the functions they may use.
#[derive(Clone)]
pub struct Set {
    pub(super) templates: BTreeMap<String, Arc<Tree>>,
    pub(super) functions: Arc<Functions>,
    variables: Vec<String>,
}

impl Set {
    /// Starts an empty set; Go's own functions are always there.
    pub fn new(functions: Arc<Functions>) -> Set {
        Set {
            templates: BTreeMap::new(),
            functions,
            variables: Vec::new(),
        }
    }

    /// Declares variables (`$activeAt`) that every text may use without defining them; [`super::Render`] gives the values.
    pub fn declare(&mut self, names: impl IntoIterator<Item = &'static str>) {
        self.variables.extend(names.into_iter().map(str::to_owned));
    }

    /// Adds the template `name` and those that its text defines. Of a name given twice the last counts, unless that
    /// one is empty.
    ///
    /// # Errors
    /// [`ParseError`]; nothing is added then.
    pub fn parse(&mut self, name: &str, text: &str) -> Result<(), ParseError> {
        for tree in parse(name, text, &self.functions, &self.variables)? {
            let empty = tree
                .list
                .iter()
                .all(|node| matches!(node, Node::Text(text) if text.trim().is_empty()));
            if empty && self.templates.contains_key(&tree.name) {
                continue;
            }
            self.templates.insert(tree.name.clone(), Arc::new(tree));
        }
        Ok(())
    }

    /// Whether there is a template of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.templates.contains_key(name)
    }
}

fn parse(name: &str, text: &str, functions: &Functions, variables: &[String]) -> Result<Vec<Tree>, ParseError> {
    let fail = |at: Pos, reason: String| ParseError {
        name: name.to_owned(),
        line: 1 + text[..at.min(text.len())].matches('\n').count(),
        reason,
    };
    if text.len() > TEXT_BYTES_MAX {
        return Err(fail(
            0,
            format!("the template has {} bytes, the limit is {TEXT_BYTES_MAX}", text.len()),
        ));
    }
    let lexemes = lex(text).map_err(|error| fail(error.at, error.reason))?;
    let mut parser = Parser {
        lexemes,
        next: 0,
        functions,
        variables: std::iter::once("$".to_owned())
            .chain(variables.iter().cloned())
            .collect(),
        always: variables.to_vec(),
        depth: 0,
        ranges: 0,
        defined: Vec::new(),
    };
    let list = parser.top().map_err(|(at, reason)| fail(at, reason))?;
    let source: Arc<str> = Arc::from(text);
    let tree = |(tree_name, list): (String, List)| Tree {
        name: tree_name,
        source: name.to_owned(),
        text: Arc::clone(&source),
        list,
    };
    let mut trees: Vec<Tree> = std::mem::take(&mut parser.defined).into_iter().map(tree).collect();
    trees.push(tree((name.to_owned(), list)));
    Ok(trees)
}

type Fail = (Pos, String);

/// How a list of nodes ended.
enum Ended {
    End,
    Else,
}

struct Parser<'a> {
    lexemes: Vec<Lexeme<'a>>,
    next: usize,
    functions: &'a Functions,
    /// Variables in scope, `$` first.
    variables: Vec<String>,
    /// Variables in scope in every definition.
    always: Vec<String>,
    depth: usize,
    ranges: usize,
    defined: Vec<(String, List)>,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> &Lexeme<'a> {
        &self.lexemes[self.next.min(self.lexemes.len() - 1)]
    }

    fn take(&mut self) -> Lexeme<'a> {
        let lexeme = self.peek().clone();
        self.next += 1;
        lexeme
    }

    fn peek_solid(&mut self) -> &Lexeme<'a> {
        while self.peek().token == Token::Space {
            self.next += 1;
        }
        self.peek()
    }

    fn take_solid(&mut self) -> Lexeme<'a> {
        self.peek_solid();
        self.take()
    }

    fn top(&mut self) -> Result<List, Fail> {
        let mut list = Vec::new();
        while self.peek().token != Token::End {
            if self.peek().token == Token::Open && self.keyword_ahead() == Some("define") {
                self.take();
                self.take_solid();
                self.define()?;
                continue;
            }
            match self.node()? {
                Ok(node) => list.extend(node),
                Err((at, Ended::End)) => return Err((at, "unexpected {{end}}".to_owned())),
                Err((at, Ended::Else)) => return Err((at, "unexpected {{else}}".to_owned())),
            }
        }
        Ok(list)
    }

    /// Returns the word right after `{{`.
    fn keyword_ahead(&self) -> Option<&'a str> {
        self.lexemes[self.next + 1..]
            .iter()
            .find(|lexeme| lexeme.token != Token::Space)
            .and_then(|lexeme| match lexeme.token {
                Token::Identifier(word) => Some(word),
                _ => None,
            })
    }

    fn define(&mut self) -> Result<(), Fail> {
        let name = self.template_name("define clause")?;
        self.close("define clause")?;
        let body = self.body()?;
        self.defined.push((name, body));
        Ok(())
    }

    /// Reads the body of a `define` or `block`, which sees no variables from outside.
    fn body(&mut self) -> Result<List, Fail> {
        let fresh = std::iter::once("$".to_owned())
            .chain(self.always.iter().cloned())
            .collect();
        let outer = std::mem::replace(&mut self.variables, fresh);
        let ranges = std::mem::take(&mut self.ranges);
        let (list, ended, at) = self.list()?;
        self.variables = outer;
        self.ranges = ranges;
        match ended {
            Ended::End => Ok(list),
            Ended::Else => Err((at, "unexpected {{else}} in define clause".to_owned())),
        }
    }

    fn template_name(&mut self, context: &str) -> Result<String, Fail> {
        let lexeme = self.take_solid();
        match lexeme.token {
            Token::Str(written) | Token::RawStr(written) => {
                unquote(written).ok_or_else(|| (lexeme.at, "invalid syntax".to_owned()))
            }
            _ => Err(self.unexpected(&lexeme, context)),
        }
    }

    fn close(&mut self, context: &str) -> Result<(), Fail> {
        let lexeme = self.take_solid();
        if lexeme.token == Token::Close {
            Ok(())
        } else {
            Err(self.unexpected(&lexeme, context))
        }
    }

    fn unexpected(&self, lexeme: &Lexeme<'a>, context: &str) -> Fail {
        (lexeme.at, format!("unexpected {} in {context}", show(&lexeme.token)))
    }

    /// Reads nodes up to `{{end}}` or `{{else`.
    fn list(&mut self) -> Result<(List, Ended, Pos), Fail> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return Err((self.peek().at, format!("nested deeper than the limit of {NESTING_MAX}")));
        }
        let mut list = Vec::new();
        loop {
            if self.peek().token == Token::End {
                return Err((self.peek().at, "unexpected EOF".to_owned()));
            }
            match self.node()? {
                Ok(node) => list.extend(node),
                Err((at, ended)) => {
                    self.depth -= 1;
                    return Ok((list, ended, at));
                }
            }
        }
    }

    /// Reads a text or an action; the inner error is an `{{end}}` or `{{else`.
    fn node(&mut self) -> Result<Result<Option<Node>, (Pos, Ended)>, Fail> {
        let lexeme = self.take();
        match lexeme.token {
            Token::Text(text) => return Ok(Ok(Some(Node::Text(text.to_owned())))),
            Token::Open => {}
            _ => return Err(self.unexpected(&lexeme, "input")),
        }
        let first = self.peek_solid().clone();
        let Token::Identifier(word) = first.token else {
            return Ok(Ok(Some(self.action()?)));
        };
        if !matches!(
            word,
            "if" | "with" | "range" | "else" | "end" | "template" | "block" | "define" | "break" | "continue"
        ) {
            return Ok(Ok(Some(self.action()?)));
        }
        self.take();
        let node = match word {
            "if" => self.branch(BranchKind::If)?,
            "with" => self.branch(BranchKind::With)?,
            "range" => self.branch(BranchKind::Range)?,
            "end" => {
                self.close("end")?;
                return Ok(Err((first.at, Ended::End)));
            }
            "else" => return Ok(Err((first.at, Ended::Else))),
            "template" => self.template()?,
            "block" => self.block()?,
            "define" => return Err((first.at, "unexpected {{define}}".to_owned())),
            _ => self.jump(word, first.at)?,
        };
        Ok(Ok(Some(node)))
    }

    fn jump(&mut self, word: &str, at: Pos) -> Result<Node, Fail> {
        let lexeme = self.take_solid();
        if lexeme.token != Token::Close {
            return Err(self.unexpected(&lexeme, &format!("{{{{{word}}}}}")));
        }
        if self.ranges == 0 {
            return Err((at, format!("{{{{{word}}}}} outside {{{{range}}}}")));
        }
        Ok(if word == "break" { Node::Break } else { Node::Continue })
    }

    fn action(&mut self) -> Result<Node, Fail> {
        let pipe = self.pipeline("command", &Token::Close)?;
        Ok(Node::Action(pipe))
    }

    fn branch(&mut self, kind: BranchKind) -> Result<Node, Fail> {
        let context = match kind {
            BranchKind::If => "if",
            BranchKind::With => "with",
            BranchKind::Range => "range",
        };
        let scope = self.variables.len();
        let pipe = self.pipeline(context, &Token::Close)?;
        if kind == BranchKind::Range {
            self.ranges += 1;
        }
        let (then, ended, _) = self.list()?;
        if kind == BranchKind::Range {
            self.ranges -= 1;
        }
        let otherwise = match ended {
            Ended::End => None,
            Ended::Else => Some(self.otherwise(kind)?),
        };
        self.variables.truncate(scope);
        Ok(Node::Branch(Branch {
            kind,
            pipe,
            then,
            otherwise,
        }))
    }

    /// Reads what follows `{{else`: a plain list, or `else if …` and `else with …`, which share the outer `{{end}}`.
    fn otherwise(&mut self, kind: BranchKind) -> Result<List, Fail> {
        let next = self.peek_solid().clone();
        let chained = match (kind, &next.token) {
            (BranchKind::If, Token::Identifier("if")) | (BranchKind::With, Token::Identifier("with")) => true,
            (_, Token::Close) => false,
            _ => return Err(self.unexpected(&next, "else")),
        };
        self.take();
        if chained {
            self.depth += 1;
            if self.depth > NESTING_MAX {
                return Err((next.at, format!("nested deeper than the limit of {NESTING_MAX}")));
            }
            let node = self.branch(kind)?;
            self.depth -= 1;
            return Ok(vec![node]);
        }
        match self.list()? {
            (list, Ended::End, _) => Ok(list),
            (_, Ended::Else, at) => Err((at, "expected end; found {{else}}".to_owned())),
        }
    }

    fn template(&mut self) -> Result<Node, Fail> {
        let at = self.peek_solid().at;
        let name = self.template_name("template clause")?;
        let pipe = if self.peek_solid().token == Token::Close {
            self.take();
            None
        } else {
            Some(self.pipeline("template clause", &Token::Close)?)
        };
        Ok(Node::Template { at, name, pipe })
    }

    fn block(&mut self) -> Result<Node, Fail> {
        let at = self.peek_solid().at;
        let name = self.template_name("block clause")?;
        let pipe = self.pipeline("block clause", &Token::Close)?;
        let body = self.body()?;
        self.defined.push((name.clone(), body));
        Ok(Node::Template {
            at,
            name,
            pipe: Some(pipe),
        })
    }

    fn pipeline(&mut self, context: &str, end: &Token<'_>) -> Result<Pipe, Fail> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return Err((self.peek().at, format!("nested deeper than the limit of {NESTING_MAX}")));
        }
        let at = self.peek_solid().at;
        let (variables, assigns) = self.declarations(context)?;
        let mut commands = Vec::new();
        loop {
            let lexeme = self.peek_solid().clone();
            if lexeme.token == *end {
                self.take();
                self.check_pipeline(&commands, context, lexeme.at)?;
                self.depth -= 1;
                return Ok(Pipe {
                    at,
                    variables,
                    assigns,
                    commands,
                });
            }
            match lexeme.token {
                Token::Comma | Token::Close | Token::CloseParen | Token::End | Token::Assign | Token::Declare => {
                    return Err(self.unexpected(&lexeme, context));
                }
                _ => commands.push(self.command()?),
            }
        }
    }

    fn check_pipeline(&self, commands: &[Command], context: &str, at: Pos) -> Result<(), Fail> {
        if commands.is_empty() {
            return Err((at, format!("missing value for {context}")));
        }
        for (i, command) in commands.iter().enumerate().skip(1) {
            let first = &command.args[0];
            if matches!(
                first.term,
                Term::Bool(_) | Term::Dot | Term::Nil | Term::Number { .. } | Term::Str { .. }
            ) {
                return Err((first.at, format!("non executable command in pipeline stage {}", i + 1)));
            }
        }
        Ok(())
    }

    /// Reads `$x :=`, `$x =`, `$i, $x :=`, if the pipeline begins so.
    fn declarations(&mut self, context: &str) -> Result<(Vec<String>, bool), Fail> {
        let start = self.next;
        let mut names = Vec::new();
        loop {
            let lexeme = self.peek_solid().clone();
            let Token::Variable(name) = lexeme.token else {
                break;
            };
            self.take();
            let after = self.peek_solid().clone();
            match after.token {
                Token::Declare | Token::Assign => {
                    self.take();
                    names.push(name.to_owned());
                    let assigns = after.token == Token::Assign;
                    self.variables.extend(names.iter().cloned());
                    return Ok((names, assigns));
                }
                Token::Comma if context == "range" && names.is_empty() => {
                    self.take();
                    names.push(name.to_owned());
                }
                Token::Comma => return Err((after.at, format!("too many declarations in {context}"))),
                _ => break,
            }
        }
        if !names.is_empty() {
            let lexeme = self.peek_solid().clone();
            return Err(if context == "range" {
                (lexeme.at, "range can only initialize variables".to_owned())
            } else {
                self.unexpected(&lexeme, context)
            });
        }
        self.next = start;
        Ok((Vec::new(), false))
    }

    fn command(&mut self) -> Result<Command, Fail> {
        let mut args = Vec::new();
        loop {
            let at = self.peek_solid().at;
            if let Some(operand) = self.operand()? {
                args.push(operand);
            }
            let lexeme = self.take();
            match lexeme.token {
                Token::Space => continue,
                Token::Close | Token::CloseParen => self.next -= 1,
                Token::Pipe => {
                    let after = self.peek_solid().clone();
                    if matches!(after.token, Token::Close | Token::CloseParen | Token::Pipe) && !args.is_empty() {
                        if after.token == Token::Pipe {
                            return Err((after.at, "empty command".to_owned()));
                        }
                        return Err((after.at, "missing value for command".to_owned()));
                    }
                }
                _ => return Err(self.unexpected(&lexeme, "operand")),
            }
            if args.is_empty() {
                return Err((at, "empty command".to_owned()));
            }
            return Ok(Command { args });
        }
    }

    fn operand(&mut self) -> Result<Option<Operand>, Fail> {
        let Some(base) = self.term()? else {
            return Ok(None);
        };
        let mut names = Vec::new();
        // Go places a chain where its first field stands.
        let at = if matches!(self.peek().token, Token::Field(_)) {
            self.peek().at
        } else {
            base.at
        };
        while let Token::Field(name) = self.peek().token {
            names.push(name.to_owned());
            self.take();
        }
        if names.is_empty() {
            return Ok(Some(base));
        }
        let term = match base.term {
            Term::Field(mut fields) => {
                fields.extend(names);
                Term::Field(fields)
            }
            Term::Variable(mut fields) => {
                fields.extend(names);
                Term::Variable(fields)
            }
            Term::Bool(_) | Term::Str { .. } | Term::Number { .. } | Term::Nil | Term::Dot => {
                return Err((
                    at,
                    format!("unexpected . after term {}", quote(&base.to_string(), false)),
                ));
            }
            _ => Term::Chain(Box::new(base), names),
        };
        Ok(Some(Operand { at, term }))
    }

    fn term(&mut self) -> Result<Option<Operand>, Fail> {
        let lexeme = self.peek_solid().clone();
        let bad_string = || (lexeme.at, "invalid syntax".to_owned());
        let term = match lexeme.token {
            Token::Identifier("true") => Term::Bool(true),
            Token::Identifier("false") => Term::Bool(false),
            Token::Identifier("nil") => Term::Nil,
            Token::Identifier(name) => {
                if !self.functions.contains(name) {
                    return Err((lexeme.at, format!("function {} not defined", quote(name, false))));
                }
                Term::Function(name.to_owned())
            }
            Token::Dot => Term::Dot,
            Token::Field(name) => Term::Field(vec![name.to_owned()]),
            Token::Variable(name) => {
                if !self.variables.iter().any(|known| known == name) {
                    return Err((lexeme.at, format!("undefined variable {}", quote(name, false))));
                }
                Term::Variable(vec![name.to_owned()])
            }
            Token::Number(text) => Term::Number {
                text: text.to_owned(),
                number: checked_number(text).map_err(|reason| (lexeme.at, reason))?,
            },
            Token::Char(written) => Term::Number {
                text: written.to_owned(),
                number: unquote_char(written)
                    .ok_or_else(|| (lexeme.at, format!("malformed character constant: {written}")))?,
            },
            Token::Str(written) => {
                unquote(written).ok_or_else(bad_string)?;
                Term::Str {
                    text: written.to_owned(),
                }
            }
            Token::RawStr(written) => Term::Str {
                text: written.to_owned(),
            },
            Token::OpenParen => {
                self.take();
                let pipe = self.pipeline("parenthesized pipeline", &Token::CloseParen)?;
                return Ok(Some(Operand {
                    at: lexeme.at,
                    term: Term::Pipe(Box::new(pipe)),
                }));
            }
            _ => return Ok(None),
        };
        self.take();
        Ok(Some(Operand { at: lexeme.at, term }))
    }
}
