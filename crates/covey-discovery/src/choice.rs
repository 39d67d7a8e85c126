//! Which of those that were found is meant.

use std::fmt;

use crate::found::Found;

/// Why none was chosen: the next step is in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotChosen {
    /// Nobody has answered.
    Nobody,
    /// Nobody of that name has.
    NoSuchName {
        /// The name.
        wanted: String,
        /// Those that have.
        names: Vec<String>,
    },
    /// Those that have answered announce another CA than the client trusts.
    OtherCa {
        /// Who they are.
        names: Vec<String>,
    },
    /// Several have.
    Several {
        /// Who they are.
        names: Vec<String>,
    },
}

impl fmt::Display for NotChosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str(
                "no server was found on the local network; a server announces itself with: covey up --mdns",
            ),
            Self::NoSuchName { wanted, names } => {
                write!(f, "no server {wanted:?} was found on the local network")?;
                if !names.is_empty() {
                    write!(f, "; there are: {}", names.join(", "))?;
                }
                Ok(())
            }
            Self::OtherCa { names } => write!(
                f,
                "no server that was found announces the CA that is trusted here; to try one all the same, name it: {}",
                names.join(", ")
            ),
            Self::Several { names } => {
                write!(f, "several servers were found, name the one that is meant: {}", names.join(", "))
            }
        }
    }
}

/// Chooses: the one of that name, else the only one that announces a CA that is trusted here. What it announces chooses
/// alone: whoever is chosen must prove itself by that CA.
///
/// # Errors
/// None, or several.
pub fn choose<'a>(
    found: &'a [Found],
    wanted: Option<&str>,
    trusted: &[String],
) -> Result<&'a Found, NotChosen> {
    let names = |of: &[&Found]| of.iter().map(|found| found.name.clone()).collect::<Vec<_>>();
    let all: Vec<&Found> = found.iter().collect();
    if let Some(wanted) = wanted {
        let is_wanted = |found: &&Found| found.name.to_lowercase() == wanted.to_lowercase();
        let no_such_name = || NotChosen::NoSuchName { wanted: wanted.to_owned(), names: names(&all) };
        return all.iter().copied().find(is_wanted).ok_or_else(no_such_name);
    }
    let is_trusted =
        |found: &&Found| found.txt("ca").is_some_and(|ca| trusted.iter().any(|trusted| trusted == ca));
    let ours: Vec<&Found> = all.iter().copied().filter(is_trusted).collect();
    match (ours.as_slice(), all.is_empty()) {
        ([one], _) => Ok(one),
        ([], true) => Err(NotChosen::Nobody),
        ([], false) => Err(NotChosen::OtherCa { names: names(&all) }),
        (several, _) => Err(NotChosen::Several { names: names(several) }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn found(name: &str, ca: Option<&str>) -> Found {
        let txt = ca.map(|ca| ("ca".to_owned(), ca.to_owned())).into_iter().collect();
        Found { name: name.to_owned(), addresses: vec![[10, 0, 0, 1].into()], port: 1, txt }
    }

    #[test]
    fn the_only_one_of_a_trusted_ca_is_chosen_and_among_several_the_one_that_is_named() {
        let ours = ["a".repeat(64)];
        let all = [found("attic", Some(&ours[0])), found("Cellar", Some(&"b".repeat(64))), found("c", None)];
        assert_eq!(choose(&all, None, &ours).unwrap().name, "attic");
        assert_eq!(choose(&all, Some("cellar"), &ours).unwrap().name, "Cellar");
        let names = |error: NotChosen| error.to_string();
        assert!(names(choose(&all, Some("x"), &ours).unwrap_err()).contains("attic, Cellar, c"));
        assert!(names(choose(&all[1..], None, &ours).unwrap_err()).contains("announces the CA"));
        assert_eq!(choose(&[], None, &ours).unwrap_err(), NotChosen::Nobody);
        let two = [found("attic", Some(&ours[0])), found("roof", Some(&ours[0])), found("c", None)];
        assert!(names(choose(&two, None, &ours).unwrap_err()).ends_with("attic, roof"));
    }
}
