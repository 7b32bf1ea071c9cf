//! Which libtorch is used, by the rules of torch-sys's build script.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result};
use crate::workspace::Workspace;

#[derive(Debug, PartialEq, Eq)]
pub enum Choice {
    /// `LIBTORCH_USE_PYTORCH`: the PyTorch of the Python on the path.
    PyTorch,
    /// The user's own: `lib` and `include` lie in these two folders, which mostly are one.
    Own { lib: PathBuf, include: PathBuf },
    /// Ours, in `.torch`.
    Managed,
}

impl Choice {
    /// `variable` looks up the environment.
    ///
    /// `[env]` in `.cargo/config.toml` gives LIBTORCH to every process that cargo starts, this one
    /// included, unless one was exported. So a LIBTORCH with the value from there is nobody's wish.
    pub fn new(variable: impl Fn(&str) -> Option<OsString>, workspace: &Workspace) -> Result<Self> {
        // torch-sys asks only whether it is set.
        if variable("LIBTORCH_USE_PYTORCH").is_some() {
            return Ok(Choice::PyTorch);
        }
        let path = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let libtorch = path("LIBTORCH").filter(|path| !same(path, &workspace.libtorch()));
        let (lib, include) = match (path("LIBTORCH_LIB"), path("LIBTORCH_INCLUDE"), libtorch) {
            (None, None, None) => return Ok(Choice::Managed),
            (Some(lib), Some(include), _) => (lib, include),
            (lib, include, Some(both)) => (lib.unwrap_or_else(|| both.clone()), include.unwrap_or(both)),
            (lib, _, None) => {
                let (set, missing) = match lib {
                    Some(_) => ("LIBTORCH_LIB", "LIBTORCH_INCLUDE"),
                    None => ("LIBTORCH_INCLUDE", "LIBTORCH_LIB"),
                };
                return Err(Failure::Task(format!(
                    "{set} is set, but neither {missing} nor LIBTORCH: set one of them, too, or unset {set}"
                )));
            }
        };
        for path in [&lib, &include] {
            if path.is_relative() {
                return Err(Failure::Task(format!(
                    "libtorch's folder must be an absolute path, because cargo builds every package in a \
                     folder of its own, but LIBTORCH (or LIBTORCH_LIB, LIBTORCH_INCLUDE) is `{}`",
                    path.display()
                )));
            }
        }
        Ok(Choice::Own { lib, include })
    }
}

/// Equal as written, or the same folder by way of links.
fn same(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(variables: &[(&str, &str)]) -> Result<Choice> {
        let find = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| value.into());
        Choice::new(find, &Workspace::at("/workspace"))
    }

    fn own(lib: &str, include: &str) -> Choice {
        Choice::Own { lib: lib.into(), include: include.into() }
    }

    #[test]
    fn ours_is_used_if_nobody_asks_for_another() {
        assert_eq!(choice(&[]).unwrap(), Choice::Managed);
        assert_eq!(choice(&[("LIBTORCH", "")]).unwrap(), Choice::Managed);
    }

    #[test]
    fn the_value_from_cargos_configuration_is_not_the_users() {
        assert_eq!(choice(&[("LIBTORCH", "/workspace/.torch/torch")]).unwrap(), Choice::Managed);
        assert_eq!(choice(&[("LIBTORCH", "/workspace/.torch/torch/")]).unwrap(), Choice::Managed);
    }

    #[test]
    fn an_exported_libtorch_wins() {
        assert_eq!(choice(&[("LIBTORCH", "/opt/torch")]).unwrap(), own("/opt/torch", "/opt/torch"));
    }

    #[test]
    fn the_libtorch_of_another_checkout_is_the_users() {
        let other = "/elsewhere/.torch/torch";
        assert_eq!(choice(&[("LIBTORCH", other)]).unwrap(), own(other, other));
    }

    #[test]
    fn lib_and_include_may_lie_apart() {
        let config = ("LIBTORCH", "/workspace/.torch/torch");
        let apart = [config, ("LIBTORCH_LIB", "/l"), ("LIBTORCH_INCLUDE", "/i")];
        assert_eq!(choice(&apart).unwrap(), own("/l", "/i"));
        assert_eq!(choice(&[("LIBTORCH", "/t"), ("LIBTORCH_LIB", "/l")]).unwrap(), own("/l", "/t"));
    }

    #[test]
    fn ours_is_never_mixed_with_another() {
        let Err(Failure::Task(message)) =
            choice(&[("LIBTORCH", "/workspace/.torch/torch"), ("LIBTORCH_LIB", "/l")])
        else {
            panic!("headers and libraries of two versions would meet");
        };
        assert!(
            message.starts_with("LIBTORCH_LIB is set, but neither LIBTORCH_INCLUDE nor LIBTORCH"),
            "{message}"
        );
    }

    #[test]
    fn pytorch_comes_first_whatever_its_value() {
        assert_eq!(choice(&[("LIBTORCH_USE_PYTORCH", "0"), ("LIBTORCH", "/opt")]).unwrap(), Choice::PyTorch);
    }

    #[test]
    fn a_relative_path_is_refused() {
        let Err(Failure::Task(message)) = choice(&[("LIBTORCH", "libtorch")]) else {
            panic!("it cannot work")
        };
        assert!(message.contains("absolute"), "{message}");
    }
}
