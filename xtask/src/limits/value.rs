//! What a constant is worth, as people say it.

use anyhow::{Context, Result, bail};
use syn::{BinOp, Expr, Lit};

use crate::limits::source::{Constant, Source};

/// A number, and whether it is a length of time, in milliseconds.
#[derive(Clone, Copy)]
pub struct Value {
    number: i128,
    is_time: bool,
}

impl Value {
    /// Works a constant out.
    pub fn of(source: &Source, constant: &Constant) -> Result<Self> {
        work_out(source, &constant.file, &constant.value)
    }

    /// With the unit that the constant's name or type tells.
    pub fn told(self, name: &str) -> String {
        let has = |unit: &str| name.split(['_', ':']).any(|part| part.eq_ignore_ascii_case(unit));
        if self.is_time || has("MS") {
            time(self.number)
        } else if has("S") || has("SECONDS") {
            time(self.number * 1_000)
        } else if has("MINUTES") {
            time(self.number * 60_000)
        } else if has("BYTES") {
            bytes(self.number)
        } else if has("CHARS") {
            format!("{} characters", grouped(self.number))
        } else if has("DAYS") {
            format!("{} days", grouped(self.number))
        } else {
            grouped(self.number)
        }
    }
}

const fn plain(number: i128) -> Value {
    Value { number, is_time: false }
}

fn work_out(source: &Source, file: &str, expression: &Expr) -> Result<Value> {
    let again = |expression| work_out(source, file, expression);
    match expression {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Int(number) => Ok(plain(number.base10_parse()?)),
            // Whole, as all are.
            #[allow(clippy::cast_possible_truncation)]
            Lit::Float(number) => Ok(plain(number.base10_parse::<f64>()? as i128)),
            _ => bail!("is no number"),
        },
        Expr::Paren(inner) => again(&inner.expr),
        Expr::Cast(cast) => again(&cast.expr),
        Expr::Binary(two) => {
            let (left, right) = (again(&two.left)?, again(&two.right)?);
            let number = match two.op {
                BinOp::Add(_) => left.number.checked_add(right.number),
                BinOp::Sub(_) => left.number.checked_sub(right.number),
                BinOp::Mul(_) => left.number.checked_mul(right.number),
                BinOp::Div(_) => left.number.checked_div(right.number),
                BinOp::Shl(_) => u32::try_from(right.number).ok().and_then(|by| left.number.checked_shl(by)),
                _ => None,
            };
            Ok(Value { number: number.context("cannot be worked out")?, is_time: left.is_time })
        }
        Expr::Call(call) => {
            let Expr::Path(function) = &*call.func else { bail!("cannot be worked out") };
            let name = function.path.segments.last().map(|last| last.ident.to_string()).unwrap_or_default();
            let argument = again(call.args.first().context("cannot be worked out")?)?;
            let number = match name.as_str() {
                "from_secs" => argument.number * 1_000,
                "from_millis" => argument.number,
                "from_mins" => argument.number * 60_000,
                "from_hours" => argument.number * 3_600_000,
                _ => bail!("calls {name}, which cannot be worked out"),
            };
            Ok(Value { number, is_time: true })
        }
        Expr::Path(path) => {
            let names: Vec<String> =
                path.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            match names.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                ["u16", "MAX"] => Ok(plain(u16::MAX.into())),
                ["u32", "MAX"] => Ok(plain(u32::MAX.into())),
                ["i32", "MAX"] => Ok(plain(i32::MAX.into())),
                ["i64", "MAX"] => Ok(plain(i64::MAX.into())),
                _ => {
                    let constant = source
                        .named(file, &path.path)
                        .with_context(|| format!("it is not clear what {} is", names.join("::")))?;
                    Value::of(source, constant)
                }
            }
        }
        _ => bail!("cannot be worked out"),
    }
}

/// Thousands apart by commas.
fn grouped(number: i128) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0 { format!("-{text}") } else { text }
}

/// In the largest of the units that gives a whole number, or one with a half.
fn in_units(number: i128, units: &[(i128, &str)]) -> String {
    let (size, unit) = units
        .iter()
        .find(|(size, _)| number >= *size && number * 2 % size == 0)
        .or(units.last())
        .copied()
        .unwrap_or((1, ""));
    let half = if number % size == 0 { "" } else { ".5" };
    let unit = if number == size {
        unit.strip_suffix('s').filter(|one| one.len() > 1).unwrap_or(unit)
    } else {
        unit
    };
    format!("{}{half} {unit}", grouped(number / size))
}

fn bytes(number: i128) -> String {
    in_units(number, &[(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "bytes")])
}

fn time(ms: i128) -> String {
    in_units(ms, &[(86_400_000, "days"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"), (1, "ms")])
}
