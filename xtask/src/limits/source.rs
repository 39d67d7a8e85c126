//! The constants of the crates, with their comments, and what the fields of a type are by default.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use syn::visit::Visit;
use syn::{
    Attribute, Expr, ExprStruct, Ident, ImplItemConst, ItemConst, ItemImpl, ItemMod, ItemStruct, ItemUse,
    Lit, Member, Meta, Type, UseTree,
};

use crate::step::output;

/// A constant, or a field with what it is by default.
pub struct Constant {
    /// Where it is, from the root.
    pub file: String,
    /// `NAME`, or `Type::field`.
    pub name: String,
    /// Its comment, in one line.
    pub comment: String,
    pub value: Expr,
}

impl Constant {
    /// Whether it is a constant whose name says that nothing goes beyond it.
    pub fn is_named_like_a_limit(&self) -> bool {
        self.name.split('_').any(|part| part == "MAX")
    }
}

/// All of them.
#[derive(Default)]
pub struct Source {
    constants: Vec<Constant>,
    /// Where each file has names from that it uses, by file and name.
    used: HashMap<(String, String), Vec<String>>,
}

impl Source {
    /// Reads those of the crates' programs, without their tests.
    pub fn read(root: &Path) -> Result<Self> {
        let mut source = Self::default();
        let mut list = Command::new("git");
        list.args(["ls-files", "--cached", "--others", "--exclude-standard", "crates/*/src/*.rs"]);
        for file in output(&mut list)?.lines() {
            if root.join(file).exists() && !file.ends_with("/tests.rs") && !file.contains("/tests/") {
                source.add(file, &std::fs::read_to_string(root.join(file))?)?;
            }
        }
        Ok(source)
    }

    /// Adds those of one file.
    pub fn add(&mut self, file: &str, text: &str) -> Result<()> {
        let parsed = syn::parse_file(text).with_context(|| format!("cannot read {file}"))?;
        let mut reading = Reading { file, constants: Vec::new(), fields: HashMap::new(), used: Vec::new() };
        reading.visit_file(&parsed);
        self.constants.append(&mut reading.constants);
        self.used.extend(reading.used.into_iter().map(|(name, from)| ((file.to_owned(), name), from)));
        Ok(())
    }

    pub fn constants(&self) -> impl Iterator<Item = &Constant> {
        self.constants.iter()
    }

    /// The one that a path means which is written in `file`: that of the file itself, else the one whose
    /// place has most in common with where the name comes from.
    pub fn named(&self, file: &str, path: &syn::Path) -> Option<&Constant> {
        let mut from: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        let name = from.pop()?;
        let found: Vec<&Constant> = self.constants().filter(|constant| constant.name == name).collect();
        if from.is_empty() {
            if let Some(here) = found.iter().find(|constant| constant.file == file) {
                return Some(here);
            }
            from = self.used.get(&(file.to_owned(), name)).cloned().unwrap_or_default();
        }
        let crate_folder = file.split('/').nth(1).unwrap_or_default();
        let in_common = |constant: &Constant| {
            let place: Vec<&str> = constant.file.split(['/', '.']).collect();
            let is_there = |module: &&String| {
                place.contains(
                    &if *module == "crate" { crate_folder.to_owned() } else { module.replace('_', "-") }
                        .as_str(),
                ) || place.contains(&module.as_str())
            };
            from.iter().filter(is_there).count()
        };
        let most = found.iter().map(|constant| in_common(constant)).max()?;
        let mut best = found.into_iter().filter(|constant| in_common(constant) == most);
        best.next().filter(|_| best.next().is_none())
    }
}

struct Reading<'a> {
    file: &'a str,
    constants: Vec<Constant>,
    /// The comments of fields, by type and field.
    fields: HashMap<(String, String), String>,
    /// Names that are used, each with where it comes from.
    used: Vec<(String, Vec<String>)>,
}

impl Reading<'_> {
    fn add(&mut self, name: String, comment: String, value: &Expr) {
        self.constants.push(Constant { file: self.file.to_owned(), name, comment, value: value.clone() });
    }

    /// The names of a tree of `use`.
    fn add_used(&mut self, tree: &UseTree, from: &[String]) {
        match tree {
            UseTree::Path(path) => {
                let from: Vec<String> = from.iter().cloned().chain([path.ident.to_string()]).collect();
                self.add_used(&path.tree, &from);
            }
            UseTree::Group(group) => group.items.iter().for_each(|item| self.add_used(item, from)),
            UseTree::Name(name) => self.used.push((name.ident.to_string(), from.to_vec())),
            _ => {}
        }
    }

    /// What the fields of a type are by default.
    fn add_defaults(&mut self, of: &Ident, defaults: &ExprStruct) {
        for field in &defaults.fields {
            let Member::Named(name) = &field.member else { continue };
            if let Some(comment) = self.fields.get(&(of.to_string(), name.to_string())).cloned() {
                self.add(format!("{of}::{name}"), comment, &field.expr);
            }
        }
    }
}

impl<'ast> Visit<'ast> for Reading<'_> {
    fn visit_item_const(&mut self, item: &'ast ItemConst) {
        self.add(item.ident.to_string(), comment(&item.attrs), &item.expr);
    }

    fn visit_impl_item_const(&mut self, item: &'ast ImplItemConst) {
        self.add(item.ident.to_string(), comment(&item.attrs), &item.expr);
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.add_used(&item.tree, &[]);
    }

    fn visit_item_struct(&mut self, item: &'ast ItemStruct) {
        for field in &item.fields {
            if let Some(name) = &field.ident {
                self.fields.insert((item.ident.to_string(), name.to_string()), comment(&field.attrs));
            }
        }
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        let is_default = item.trait_.as_ref().is_some_and(|(path, _)| path.is_ident("Default"));
        if let (true, Type::Path(of)) = (is_default, &*item.self_ty)
            && let Some(of) = of.path.get_ident()
        {
            let mut defaults = Defaults(None);
            defaults.visit_item_impl(item);
            if let Some(defaults) = defaults.0 {
                self.add_defaults(of, defaults);
            }
        }
        syn::visit::visit_item_impl(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        let is_test = |attribute: &Attribute| matches!(&attribute.meta, Meta::List(list) if list.path.is_ident("cfg") && list.tokens.to_string() == "test");
        if !item.attrs.iter().any(is_test) {
            syn::visit::visit_item_mod(self, item);
        }
    }
}

/// The first `Self { … }`.
struct Defaults<'ast>(Option<&'ast ExprStruct>);

impl<'ast> Visit<'ast> for Defaults<'ast> {
    fn visit_expr_struct(&mut self, expression: &'ast ExprStruct) {
        if expression.path.is_ident("Self") {
            self.0.get_or_insert(expression);
        }
    }
}

/// A comment for rustdoc, in one line.
fn comment(attributes: &[Attribute]) -> String {
    attributes.iter().filter_map(comment_line).collect::<Vec<_>>().join(" ")
}

/// A line of one.
fn comment_line(attribute: &Attribute) -> Option<String> {
    match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(text) => Some(text.value().trim().to_owned()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}
