//! How a noun lists the statements that are prepared on a connection.

/// Makes a struct of one noun's prepared statements.
macro_rules! prepared {
    ($(#[$about:meta])* $kind:ident { $($(#[$doc:meta])* $name:ident: $sql:expr;)* }) => {
        $(#[$about])*
        pub(crate) struct $kind {
            $($(#[$doc])* pub(crate) $name: tokio_postgres::Statement,)*
        }

        impl $kind {
            /// Each with its name.
            pub(crate) const ALL: &'static [(&'static str, &'static str)] =
                &[$((stringify!($name), $sql),)*];

            /// Takes them out of those that were prepared, in their order.
            pub(crate) async fn take(
                client: &tokio_postgres::Client,
                prepared: &mut std::vec::IntoIter<tokio_postgres::Statement>,
            ) -> Result<Self, tokio_postgres::Error> {
                Ok(Self { $($name: match prepared.next() {
                    Some(statement) => statement,
                    // Every statement is answered; this keeps the types honest.
                    None => client.prepare($sql).await?,
                },)* })
            }
        }
    };
}
pub(super) use prepared;
