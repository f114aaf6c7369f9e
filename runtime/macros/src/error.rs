//! A refusal with the place that it is about; it becomes `compile_error!` there.

use proc_macro::{Delimiter, Group, Ident, Literal, Punct, Spacing, Span, TokenStream, TokenTree};

/// What is wrong, and where.
#[derive(Debug)]
pub(crate) struct Error {
    span: Span,
    message: String,
}

impl Error {
    /// Says `message` about the code at `span`.
    pub(crate) fn new(span: Span, message: impl Into<String>) -> Self {
        Self {
            span,
            message: message.into(),
        }
    }

    /// Returns `::core::compile_error!("message");` with every token at the span.
    pub(crate) fn into_tokens(self) -> TokenStream {
        let path = [":", ":", "core", ":", ":", "compile_error", "!"];
        let mut tokens: Vec<TokenTree> = Vec::new();
        for (i, part) in path.iter().enumerate() {
            tokens.push(match part.chars().next() {
                Some(c @ (':' | '!')) => {
                    let joint = c == ':' && path.get(i + 1) == Some(&":");
                    Punct::new(
                        c,
                        if joint {
                            Spacing::Joint
                        } else {
                            Spacing::Alone
                        },
                    )
                    .into()
                }
                _ => Ident::new(part, self.span).into(),
            });
        }
        let message = TokenStream::from(TokenTree::from(Literal::string(&self.message)));
        tokens.push(Group::new(Delimiter::Parenthesis, message).into());
        tokens.push(Punct::new(';', Spacing::Alone).into());
        for token in &mut tokens {
            token.set_span(self.span);
        }
        tokens.into_iter().collect()
    }
}
