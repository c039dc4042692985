//! What `ssh` says about a login, at `LogLevel=DEBUG1`.

use crate::provider::Use;
use crate::text::sanitize;

/// What is read of what `ssh` writes.
#[derive(Debug, Default)]
pub(super) struct Said {
    offered: bool,
    pub(super) authenticated: bool,
    last: String,
}

impl Said {
    /// Takes one more line. `fingerprint` names the key that is offered.
    pub(super) fn line(&mut self, line: &str, fingerprint: &str) {
        let line = line.trim();
        if line.is_empty() {
            return;
        }
        let offers = line.starts_with("debug1: Offering ") && line.split(' ').any(|word| word == fingerprint);
        self.offered |= !fingerprint.is_empty() && offers;
        self.authenticated |= line.starts_with("Authenticated to ");
        line.clone_into(&mut self.last);
    }

    /// Whether the server showed the right host key, and asked for a login.
    pub(super) fn reached(&self) -> Result<(), String> {
        self.denied().map(drop).ok_or_else(|| self.shown())
    }

    /// Whether the server accepts the key; else why that is not known. `signed` says that a signature was asked for,
    /// which a server does that knows the key.
    pub(super) fn verdict(&self, signed: bool) -> Result<Use, String> {
        if self.authenticated && signed {
            return Ok(Use::Accepted);
        }
        match self.denied() {
            _ if self.authenticated => Err("ssh logged in without the key".to_owned()),
            Some(_) if signed => {
                Err("the server knows the key, and did not let it in: it may ask for more than a key"
                    .to_owned())
            }
            Some(methods) if !methods.split(',').any(|method| method == "publickey") => {
                Err(format!("the server takes no keys, only {}", sanitize(methods)))
            }
            Some(_) if !self.offered => Err("ssh did not offer the key: its own rules exclude it".to_owned()),
            Some(methods) => Ok(Use::Refused(format!("Permission denied ({})", sanitize(methods)))),
            None => Err(self.shown()),
        }
    }

    /// The methods that a refused login could go on with, from the line that `ssh` ends with.
    fn denied(&self) -> Option<&str> {
        self.last.split_once(": Permission denied (")?.1.strip_suffix(").")
    }

    fn shown(&self) -> String {
        if self.last.is_empty() { "ssh said nothing".to_owned() } else { sanitize(&self.last) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "SHA256:SV/t+hAHaI6o+JJFhfPYD2LHW4SLzqmjg3P6NmY/9cU";

    fn said(text: &str) -> Said {
        let mut said = Said::default();
        text.lines().for_each(|line| said.line(line, KEY));
        said
    }

    #[test]
    fn only_a_refused_key_is_a_refusal() {
        let offered = format!("debug1: Offering public key: stanch ED25519 {KEY} agent\n");
        let denied = "nobody@127.0.0.1: Permission denied (publickey,password).\n";
        let authenticated = "Authenticated to h ([127.0.0.1]:22) using \"publickey\".\n";
        let refused = said(&format!("{offered}debug1: No more authentication methods to try.\n{denied}"));
        assert!(matches!(refused.verdict(false), Ok(Use::Refused(_))), "{refused:?}");
        assert_eq!(said(&format!("{offered}{authenticated}")).verdict(true), Ok(Use::Accepted));
        let other_key = offered.replace("SV/t", "XX/t");
        for (text, signed) in [
            // The server knows the key: a second factor, or an account that is locked.
            (format!("{offered}{denied}"), true),
            // Another key, or none, was offered.
            (denied.to_owned(), false),
            (format!("{other_key}{denied}"), false),
            // The server takes no keys at all.
            (format!("{offered}n@h: Permission denied (password).\n"), false),
            // A banner that says so, and then something else.
            (format!("{offered}{denied}Connection closed by 127.0.0.1 port 22\n"), false),
            (format!("{offered}{authenticated}"), false),
            (
                format!(
                    "{offered}Received disconnect from 127.0.0.1 port 22:2: Too many authentication failures\n"
                ),
                false,
            ),
            ("Host key verification failed.\n".to_owned(), false),
            ("ssh: connect to host h port 22: Connection refused\n".to_owned(), false),
            (String::new(), false),
        ] {
            let said = said(&text);
            assert!(said.verdict(signed).is_err(), "{text}: {:?}", said.verdict(signed));
        }
        assert!(said(denied).reached().is_ok() && said("Host key verification failed.\n").reached().is_err());
    }
}
