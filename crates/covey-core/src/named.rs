//! Enums whose values have names.

/// Makes an enum whose values have the names under which they are stored and shown.
macro_rules! named {
    ($(#[$about:meta])* pub enum $kind:ident {
        $($(#[$doc:meta])* $value:ident $(= $number:literal)? => $name:literal,)+
    }) => {
        $(#[$about])*
        pub enum $kind {
            $($(#[$doc])* $value $(= $number)?,)+
        }

        impl $kind {
            /// Each of them.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$value),+];

            /// Each with its name.
            pub const NAMES: [(Self, &'static str); [$($name),+].len()] = [$((Self::$value, $name)),+];

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$value => $name,)+
                }
            }

            /// The one with this name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.into_iter().find(|one| one.name() == name)
            }
        }
    };
}
pub(crate) use named;
