//! Why an exchange of values failed, and the error types that are made of it.
//!
//! The core (`exchange.rs`) knows two lists of reasons, [`Refusal`] for those who bring a value and
//! [`Nothing`] for those who want one. Each public operation has an error type of its own with the
//! reasons that can occur there; [`errors!`] makes them, with their texts and conversions.

/// Why a value did not get in; it comes back.
pub(crate) enum Refusal<T> {
    Full(T),
    Closed(T),
    TimedOut(T),
    Unwinding(T),
}

/// Why no value came out.
pub(crate) enum Nothing {
    Empty,
    Closed,
    TimedOut,
    Unwinding,
}

/// Makes error types: those with a parameter give the value back, the others have none. After each
/// variant stand the reasons that become it, those included that cannot occur there.
macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident $(<$t:ident>)? {
        $($(#[$vdoc:meta])* $variant:ident [$($reason:ident)*] => $text:literal,)*
    })*) => {$(
        errors!(@enum $(#[$doc])* $name $(<$t>)? {
            $($(#[$vdoc])* $variant [$($reason)*],)*
        });

        impl $(<$t>)? std::fmt::Debug for $name $(<$t>)? {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self { $(Self::$variant { .. } => f.write_str(stringify!($variant)),)* }
            }
        }

        impl $(<$t>)? std::fmt::Display for $name $(<$t>)? {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self { $(Self::$variant { .. } => f.write_str($text),)* }
            }
        }

        impl $(<$t>)? std::error::Error for $name $(<$t>)? {}
    )*};
    (@enum $(#[$doc:meta])* $name:ident <$t:ident> {
        $($(#[$vdoc:meta])* $variant:ident [$($reason:ident)*],)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum $name<$t> { $($(#[$vdoc])* $variant($t),)* }

        impl<$t> $name<$t> {
            /// Returns the value that was not sent.
            pub fn into_inner(self) -> $t {
                match self { $(Self::$variant(value) => value,)* }
            }
        }

        impl<$t> From<$crate::sync::refusal::Refusal<$t>> for $name<$t> {
            #[inline]
            fn from(refusal: $crate::sync::refusal::Refusal<$t>) -> Self {
                match refusal {
                    $($($crate::sync::refusal::Refusal::$reason(value) => Self::$variant(value),)*)*
                }
            }
        }
    };
    (@enum $(#[$doc:meta])* $name:ident {
        $($(#[$vdoc:meta])* $variant:ident [$($reason:ident)*],)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl From<$crate::sync::refusal::Nothing> for $name {
            #[inline]
            fn from(nothing: $crate::sync::refusal::Nothing) -> Self {
                match nothing {
                    $($($crate::sync::refusal::Nothing::$reason => Self::$variant,)*)*
                }
            }
        }
    };
}
pub(crate) use errors;
