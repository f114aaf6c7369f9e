//! A function taken apart, as far as the attributes need it, without a parser of Rust.
//!
//! The shape is `attributes visibility fn name () [-> type] { body }`. Everything else is
//! refused at the token that says so. Attributes inside the body (`#![..]`) are split off,
//! because they must stay at the top of the outermost block.

use proc_macro::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};

use crate::args::Attribute;
use crate::error::Error;

/// The parts of the function under the attribute.
#[derive(Debug)]
pub(crate) struct Function {
    /// Outer attributes and visibility.
    pub(crate) head: TokenStream,
    pub(crate) name: Ident,
    /// `-> type`, or nothing.
    pub(crate) output: TokenStream,
    /// `#![..]` from the top of the body.
    pub(crate) inner_attributes: TokenStream,
    /// The body without them, in its braces.
    pub(crate) body: Group,
}

impl Function {
    /// Takes `item` apart.
    pub(crate) fn parse(attribute: Attribute, item: TokenStream) -> Result<Self, Error> {
        let me = attribute.name();
        let mut flat = Vec::new();
        flatten(item, &mut flat);
        let mut tokens = flat.into_iter().peekable();
        let mut head = Vec::new();

        while tokens.peek().is_some_and(|t| is_punct(t, '#')) {
            head.extend(tokens.next());
            let Some(TokenTree::Group(content)) = tokens.next() else {
                continue;
            };
            if attribute == Attribute::Test && names_test(&content.stream()) {
                let message = format!("{me} makes this a test already; remove the other attribute");
                return Err(Error::new(content.span(), message));
            }
            head.push(content.into());
        }
        if tokens.peek().is_some_and(|t| is_ident(t, "pub")) {
            head.extend(tokens.next());
            if let Some(TokenTree::Group(scope)) = tokens.peek()
                && scope.delimiter() == Delimiter::Parenthesis
            {
                head.extend(tokens.next());
            }
        }

        let not_a_function = format!("{me} can only be put on a function");
        let name = match tokens.next() {
            Some(t) if is_ident(&t, "fn") => match tokens.next() {
                Some(TokenTree::Ident(name)) => name,
                _ => return Err(Error::new(t.span(), not_a_function)),
            },
            Some(t) if is_ident(&t, "async") => {
                let message = format!(
                    "{me} takes an ordinary function: remove `async`; calls inside it may simply \
                     block, which lets other tasks run"
                );
                return Err(Error::new(t.span(), message));
            }
            Some(TokenTree::Ident(word))
                if ["const", "unsafe", "extern", "safe"].contains(&word.to_string().as_str()) =>
            {
                let message = format!("{me} takes an ordinary function: remove `{word}`");
                return Err(Error::new(word.span(), message));
            }
            Some(t) => return Err(Error::new(t.span(), not_a_function)),
            None => return Err(Error::new(Span::call_site(), not_a_function)),
        };

        match tokens.next() {
            Some(TokenTree::Group(arguments))
                if arguments.delimiter() == Delimiter::Parenthesis =>
            {
                if !arguments.stream().is_empty() {
                    let message = format!("{me} takes a function without arguments");
                    return Err(Error::new(arguments.span(), message));
                }
            }
            Some(t) => {
                let message = format!("{me} takes a function without generics");
                return Err(Error::new(t.span(), message));
            }
            None => return Err(Error::new(name.span(), not_a_function)),
        }

        let mut output: Vec<TokenTree> = tokens.collect();
        let body = match output.pop() {
            Some(TokenTree::Group(body)) if body.delimiter() == Delimiter::Brace => body,
            _ => {
                return Err(Error::new(
                    name.span(),
                    format!("{me} needs a function with a body"),
                ));
            }
        };
        if let Some(clause) = output.iter().find(|t| is_ident(t, "where")) {
            let message = format!("{me} takes a function without generics");
            return Err(Error::new(clause.span(), message));
        }
        let (inner_attributes, body) = split_body(&body);
        Ok(Self {
            head: head.into_iter().collect(),
            name,
            output: output.into_iter().collect(),
            inner_attributes,
            body,
        })
    }
}

/// Opens the invisible groups that `macro_rules!` puts around its fragments.
fn flatten(tokens: TokenStream, out: &mut Vec<TokenTree>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::None => {
                flatten(group.stream(), out);
            }
            other => out.push(other),
        }
    }
}

fn split_body(body: &Group) -> (TokenStream, Group) {
    let mut rest: Vec<TokenTree> = body.stream().into_iter().collect();
    let mut end = 0;
    while let [hash, bang, TokenTree::Group(_), ..] = &rest[end..]
        && is_punct(hash, '#')
        && is_punct(bang, '!')
    {
        end += 3;
    }
    let attributes = rest.drain(..end).collect();
    let mut block = Group::new(Delimiter::Brace, rest.into_iter().collect());
    block.set_span(body.span());
    (attributes, block)
}

/// Whether an attribute's content is a path that ends in `test`, without arguments.
fn names_test(content: &TokenStream) -> bool {
    content
        .clone()
        .into_iter()
        .last()
        .is_some_and(|t| is_ident(&t, "test"))
}

fn is_ident(token: &TokenTree, name: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident.to_string() == name)
}

fn is_punct(token: &TokenTree, c: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == c)
}
