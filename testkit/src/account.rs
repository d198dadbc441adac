//! As whom a server runs that refuses to run as root.

use anyhow::{Context as _, Result};

/// An account of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub name: String,
    pub user: u32,
    pub group: u32,
}

/// The first of these accounts that there is; none where this process is not root and so need not care.
pub(crate) fn unprivileged(names: &[&str]) -> Result<Option<Account>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let accounts = std::fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
    names.iter().find_map(|name| find(&accounts, name)).map(Some).with_context(|| {
        format!("the server will not run as root, and there is no account {}", names.join(" or "))
    })
}

fn find(accounts: &str, name: &str) -> Option<Account> {
    let line = accounts.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    let (user, group) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(Account { name: name.to_owned(), user, group })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_an_account_by_its_whole_name() {
        let accounts = "root:x:0:0::/:/bin/sh\nnobody2:x:7:8::/:\nnobody:x:65534:65533::/:\n";
        let nobody = Account { name: "nobody".to_owned(), user: 65534, group: 65533 };
        assert_eq!(find(accounts, "nobody"), Some(nobody));
        assert_eq!(find(accounts, "postgres"), None);
    }
}
