//! torchrun's environment variables.

use crate::error::{Error, Result};

/// What the environment says about this process's place in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Environment {
    pub(crate) rank: usize,
    pub(crate) world_size: usize,
    pub(crate) local_rank: usize,
    pub(crate) master_addr: String,
    pub(crate) master_port: u16,
    /// Whether the launcher hosts the store, so that rank 0 is a client of it like all others.
    pub(crate) agent_store: bool,
    /// How often the launcher has restarted the ranks: a restarted group must not find the keys of its
    /// predecessor in a store that outlived it.
    pub(crate) attempt: u64,
}

const SET_BY: &str = "torchrun and this crate's Launcher set it";

impl Environment {
    /// Reads the environment through `get`; `None` where none of the variables is set.
    pub(crate) fn read(get: impl Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        const ALL: [&str; 4] = ["RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"];
        if ALL.iter().all(|variable| get(variable).is_none()) {
            return Ok(None);
        }
        let required = |variable: &'static str| {
            get(variable).ok_or_else(|| Error::Environment {
                variable,
                reason: format!("is not set although others of {} are; {SET_BY}", ALL.join(", ")),
            })
        };
        let rank = number(required("RANK")?, "RANK")?;
        let world_size = number(required("WORLD_SIZE")?, "WORLD_SIZE")?;
        if world_size == 0 || rank >= world_size {
            return Err(Error::Environment {
                variable: "RANK",
                reason: format!("is {rank}, which is not below WORLD_SIZE = {world_size}"),
            });
        }
        Ok(Some(Self {
            rank,
            world_size,
            local_rank: get("LOCAL_RANK").map_or(Ok(rank), |value| number(value, "LOCAL_RANK"))?,
            master_addr: required("MASTER_ADDR")?,
            master_port: number(required("MASTER_PORT")?, "MASTER_PORT")?,
            agent_store: get("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|value| value == "True"),
            attempt: get("TORCHELASTIC_RESTART_COUNT")
                .map_or(Ok(0), |value| number(value, "TORCHELASTIC_RESTART_COUNT"))?,
        }))
    }
}

fn number<T: std::str::FromStr>(value: String, variable: &'static str) -> Result<T>
where
    T::Err: std::fmt::Display,
{
    value.trim().parse().map_err(|error: T::Err| Error::Environment {
        variable,
        reason: format!("is {value:?}, which is not a number in range ({error}); {SET_BY}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Option<Environment>> {
        Environment::read(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, v)| (*v).to_owned()))
    }

    const FULL: [(&str, &str); 4] =
        [("RANK", "1"), ("WORLD_SIZE", "4"), ("MASTER_ADDR", "host"), ("MASTER_PORT", "29500")];

    #[test]
    fn no_variable_is_no_environment() {
        assert_eq!(read(&[("LOCAL_RANK", "0")]).unwrap(), None);
    }

    #[test]
    fn torchrun_variables_are_understood() {
        let mut pairs = FULL.to_vec();
        pairs.extend([
            ("LOCAL_RANK", "0"),
            ("TORCHELASTIC_USE_AGENT_STORE", "True"),
            ("TORCHELASTIC_RESTART_COUNT", "2"),
        ]);
        let environment = read(&pairs).unwrap().unwrap();
        assert_eq!((environment.rank, environment.world_size, environment.local_rank), (1, 4, 0));
        assert!(environment.agent_store);
        assert_eq!(environment.attempt, 2);
    }

    #[test]
    fn a_missing_or_bad_variable_is_named() {
        for missing in 0..FULL.len() {
            let mut pairs = FULL.to_vec();
            let (name, _) = pairs.remove(missing);
            assert!(read(&pairs).unwrap_err().to_string().contains(name));
        }
        for bad in [("RANK", "4"), ("RANK", "-1"), ("WORLD_SIZE", "0"), ("MASTER_PORT", "70000")] {
            let mut pairs = FULL.to_vec();
            pairs.retain(|(name, _)| *name != bad.0);
            pairs.push(bad);
            assert!(read(&pairs).is_err(), "{bad:?}");
        }
    }
}
