//! The arguments of the attributes, separated by commas: `name = literal`, and one bare name.

use std::time::Duration;

use proc_macro::{Delimiter, Span, TokenStream, TokenTree};

use crate::error::Error;
use crate::parse;

/// The limit of a test that names none.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// Which attribute the arguments belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attribute {
    Main,
    Test,
}

impl Attribute {
    /// The attribute as users write it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Main => "#[sward::main]",
            Self::Test => "#[sward::test]",
        }
    }

    /// The names of the arguments, in the order in which the documentation lists them.
    fn known(self) -> &'static [&'static str] {
        match self {
            Self::Main => &["workers", "stack_size", "crate"],
            Self::Test => &["workers", "stack_size", "virtual_clock", "timeout", "crate"],
        }
    }
}

/// What the arguments say.
#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) workers: Option<u64>,
    pub(crate) stack_size: Option<u64>,
    pub(crate) virtual_clock: bool,
    pub(crate) timeout: Duration,
    /// The path of the crate that has `run`, `Runtime` and `__private`.
    pub(crate) path: String,
}

impl Args {
    /// Reads the tokens between the attribute's parentheses.
    pub(crate) fn parse(attribute: Attribute, tokens: TokenStream) -> Result<Self, Error> {
        let mut args = Self {
            workers: None,
            stack_size: None,
            virtual_clock: false,
            timeout: DEFAULT_TIMEOUT,
            path: "::sward".to_owned(),
        };
        let mut seen: Vec<String> = Vec::new();
        let mut tokens = tokens.into_iter();
        while let Some(token) = tokens.next() {
            let (name, span) = (token.to_string(), token.span());
            if !attribute.known().contains(&name.as_str()) {
                return Err(unknown(attribute, &name, span));
            }
            if seen.contains(&name) {
                return Err(Error::new(span, format!("`{name}` is given twice")));
            }
            if name == "virtual_clock" {
                args.virtual_clock = true;
            } else {
                match tokens.next() {
                    Some(TokenTree::Punct(p)) if p.as_char() == '=' => {}
                    other => {
                        let at = other.map_or(span, |t| t.span());
                        return Err(Error::new(at, format!("expected `{name} = value`")));
                    }
                }
                let Some(value) = tokens.next().map(ungroup) else {
                    return Err(Error::new(span, format!("`{name} =` lacks its value")));
                };
                args.set(&name, &value)
                    .map_err(|message| Error::new(value.span(), message))?;
            }
            if args.virtual_clock && args.workers.is_some_and(|n| n != 1) {
                return Err(Error::new(
                    span,
                    "a runtime with a `virtual_clock` has one worker".to_owned(),
                ));
            }
            seen.push(name);
            match tokens.next() {
                None => break,
                Some(TokenTree::Punct(p)) if p.as_char() == ',' => {}
                Some(other) => {
                    return Err(Error::new(
                        other.span(),
                        "expected a comma, then `name = value`",
                    ));
                }
            }
        }
        Ok(args)
    }

    fn set(&mut self, name: &str, value: &TokenTree) -> Result<(), String> {
        match name {
            "workers" => self.workers = Some(parse::integer(&value.to_string())?),
            "stack_size" => {
                self.stack_size = Some(match string(value) {
                    Some(text) => parse::size(&text)?,
                    None => parse::integer(&value.to_string())?,
                });
            }
            "timeout" => {
                let text = string(value).ok_or("expected a string such as \"60s\"")?;
                self.timeout = parse::duration(&text)?;
                if self.timeout.is_zero() {
                    return Err("a test needs a `timeout` above zero".to_owned());
                }
            }
            _ => {
                let text = string(value).ok_or("expected a string with the path of a crate")?;
                self.path = path(&text)?;
            }
        }
        Ok(())
    }
}

fn unknown(attribute: Attribute, name: &str, span: Span) -> Error {
    let names: Vec<String> = attribute.known().iter().map(|n| format!("`{n}`")).collect();
    let message = format!(
        "{} knows no argument `{name}`; there are {}",
        attribute.name(),
        names.join(", ")
    );
    Error::new(span, message)
}

/// Takes a literal out of the invisible group that `macro_rules!` puts around `$x:literal`.
fn ungroup(token: TokenTree) -> TokenTree {
    match token {
        TokenTree::Group(ref group) if group.delimiter() == Delimiter::None => {
            let mut inner = group.stream().into_iter();
            match (inner.next(), inner.next()) {
                (Some(only), None) => ungroup(only),
                _ => token,
            }
        }
        _ => token,
    }
}

/// Returns the text of a plain string literal without escapes.
fn string(token: &TokenTree) -> Option<String> {
    let TokenTree::Literal(literal) = token else {
        return None;
    };
    let text = literal.to_string();
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    (!inner.contains('\\')).then(|| inner.to_owned())
}

/// Checks that `text` is names joined by `::`, so that nothing else gets into the expansion.
fn path(text: &str) -> Result<String, String> {
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_alphanumeric() || c == '_')
    };
    if text
        .strip_prefix("::")
        .unwrap_or(text)
        .split("::")
        .all(is_name)
    {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is not the path of a crate or module"))
    }
}
