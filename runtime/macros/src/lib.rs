//! The attributes `#[sward::main]` and `#[sward::test]`.
//!
//! Both keep a function's attributes, visibility and return type, move its body into an inner
//! function, and run that as the first task of a runtime. Written on tokens, without a parser:
//! the little of Rust's grammar that is needed is in `item.rs`, the arguments are in `args.rs`.
//!
//! The expansions name these items of the crate they are used through, and nothing else of it:
//! `run(f)`, `Runtime::builder()` with `workers(usize)`, `stack_size(usize)`, `virtual_clock()`, `build()`,
//! `Runtime::run(f)`, `__private::builder_error(io::Error) -> !` and
//! `__private::test_body(Duration, &str, f)`.
//!
//! Where a program's `main` or a test returns a value, that is turned into an `ExitCode` inside
//! the task, by the rule that the standard library has for `main`. So it need not be `Send`
//! (`Box<dyn Error>` is not), and errors are printed as usual.
#![forbid(unsafe_code)]

mod args;
mod error;
mod item;
mod parse;

use proc_macro::{Delimiter, Group, Span, TokenStream, TokenTree};

use crate::args::{Args, Attribute};
use crate::error::Error;
use crate::item::Function;

/// Runs the function's body as the first task of a runtime, and returns what it returns.
///
/// Without arguments that is one with the defaults. With `workers = N` (OS threads that run tasks)
/// or `stack_size = "64K"` (virtual size of each task's stack: bytes, or a string with `K`, `M`
/// or `G`) it is one built for this call. `crate = "path"` names the crate to use instead of
/// `sward`.
///
/// The function may have any name; it takes no arguments and no generics. A function called
/// `main` that has a return type returns an `ExitCode` after expansion.
///
/// # Examples
/// ```ignore
/// #[sward::main(workers = 1, stack_size = "64K")]
/// fn main() {
///     let answer = sward::spawn(|| 6 * 7).join().unwrap();
///     println!("{answer}");
/// }
/// ```
///
/// # Errors
/// Arguments, generics, `async`, `const`, `unsafe` and unknown options do not compile; the message
/// stands at the offending word.
///
/// # Panics
/// The expansion panics with the reason where the runtime cannot be built, and goes on with the
/// body's own panic.
#[proc_macro_attribute]
pub fn main(args: TokenStream, item: TokenStream) -> TokenStream {
    expand(Attribute::Main, args, item)
}

/// Makes the function a test whose body is the first task of a runtime, under a time limit.
///
/// Takes the arguments of [`macro@main`] and `timeout = "60s"` (a whole number with `us`, `ms`,
/// `s`, `m` or `h`; 60 seconds of real time where it is not given). With `virtual_clock` its runtime
/// has a clock that jumps to the next timer when no task can run. A test that misses its limit fails with
/// its name. `#[should_panic]`, `#[ignore]` and return types work as with `#[test]`.
///
/// # Examples
/// ```ignore
/// #[sward::test(workers = 2, timeout = "5s")]
/// fn joins() {
///     assert_eq!(sward::spawn(|| 1).join().unwrap(), 1);
/// }
/// ```
///
/// # Errors
/// What [`macro@main`] refuses, a time-out of zero, and a second `#[test]` do not compile.
#[proc_macro_attribute]
pub fn test(args: TokenStream, item: TokenStream) -> TokenStream {
    expand(Attribute::Test, args, item)
}

fn expand(attribute: Attribute, args: TokenStream, item: TokenStream) -> TokenStream {
    let function = match Function::parse(attribute, item) {
        Ok(function) => function,
        Err(error) => return error.into_tokens(),
    };
    match Args::parse(attribute, args) {
        Ok(args) => outer_function(attribute, &args, function),
        Err(error) => refused(error, function),
    }
}

/// Builds the function that replaces the item.
fn outer_function(attribute: Attribute, args: &Args, function: Function) -> TokenStream {
    let Function {
        head,
        name,
        output,
        inner_attributes,
        body,
    } = function;
    // Locations in reports and messages then lead to the function, not to the attribute.
    let span = Span::call_site().located_at(name.span());
    let name_text = name.to_string();
    let reports = !output.is_empty() && (attribute == Attribute::Test || name_text == "main");
    let outer_output = if reports {
        tokens("-> ::std::process::ExitCode", span)
    } else {
        output.clone()
    };

    let mut block = inner_attributes;
    block.extend(tokens("fn __sward_body()", span));
    block.extend(output);
    block.extend([TokenTree::from(body.clone())]);
    block.extend(tokens(&call(attribute, args, &name_text, reports), span));
    let mut block = Group::new(Delimiter::Brace, block);
    block.set_span(body.span());

    let mut out = TokenStream::new();
    if attribute == Attribute::Test {
        out.extend(tokens("#[::core::prelude::v1::test]", span));
    }
    out.extend(head);
    out.extend(tokens("fn", span));
    out.extend([TokenTree::from(name)]);
    out.extend(tokens("()", span));
    out.extend(outer_output);
    out.extend([TokenTree::from(block)]);
    out
}

/// Writes the expression that runs `__sward_body`.
fn call(attribute: Attribute, args: &Args, name: &str, reports: bool) -> String {
    let path = &args.path;
    let entry = if reports {
        "|| ::std::process::Termination::report(__sward_body())"
    } else {
        "__sward_body"
    };
    let mut options = String::new();
    if args.virtual_clock {
        options.push_str(".virtual_clock()");
    }
    let run = if options.is_empty() && args.workers.is_none() && args.stack_size.is_none() {
        format!("{path}::run({entry})")
    } else {
        for (option, value) in [("workers", args.workers), ("stack_size", args.stack_size)] {
            if let Some(value) = value {
                options.push_str(&format!(".{option}({value}usize)"));
            }
        }
        format!(
            "match {path}::Runtime::builder(){options}.build() {{
                ::core::result::Result::Ok(runtime) => runtime.run({entry}),
                ::core::result::Result::Err(error) => {path}::__private::builder_error(error),
            }}"
        )
    };
    match attribute {
        Attribute::Main => run,
        Attribute::Test => format!(
            "{path}::__private::test_body(
                ::core::time::Duration::from_micros({}u64),
                ::core::concat!(::core::module_path!(), \"::\", \"{name}\"),
                || {run},
            )",
            args.timeout.as_micros()
        ),
    }
}

/// The error, and the function as it was: the error is then the only one.
fn refused(error: Error, function: Function) -> TokenStream {
    let mut out = error.into_tokens();
    out.extend(function.head);
    out.extend(tokens("fn", Span::call_site()));
    out.extend([TokenTree::from(function.name)]);
    out.extend(tokens("()", Span::call_site()));
    out.extend(function.output);
    out.extend([TokenTree::from(function.body)]);
    out
}

/// Reads code that this crate wrote, every token at `span`.
fn tokens(code: &str, span: Span) -> TokenStream {
    match code.parse::<TokenStream>() {
        Ok(stream) => stream.into_iter().map(|token| at(token, span)).collect(),
        Err(error) => Error::new(
            span,
            format!("sward wrote code that does not parse: {error}"),
        )
        .into_tokens(),
    }
}

fn at(token: TokenTree, span: Span) -> TokenTree {
    let mut token = match token {
        TokenTree::Group(group) => {
            let inner = group.stream().into_iter().map(|t| at(t, span)).collect();
            TokenTree::from(Group::new(group.delimiter(), inner))
        }
        other => other,
    };
    token.set_span(span);
    token
}
