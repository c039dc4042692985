//! What a runbook names outside of itself: programs and addresses. Every field is taken apart here, so
//! that a new one makes the compiler ask whether it names something.

use super::model::{Call, Consumer, Credential, Exec, HttpCall, OwnStep, PhaseSpec, Phases, Runbook, Undo};
use crate::kind::spec::Names;

/// A program or an address, and what of the runbook names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The program, or the address.
    pub what: String,
    /// What a program is started with. An address has none.
    pub arguments: Vec<String>,
    /// Where, such as `credential app, revoke`.
    pub place: String,
}

/// What a runbook names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllNamed {
    /// The first word of each list of arguments.
    pub programs: Vec<Named>,
    /// The http addresses.
    pub addresses: Vec<Named>,
}

impl Runbook {
    /// Every program and every address that any step, check, gate, attestation or way back of this runbook
    /// names, in the order of the file.
    pub fn named(&self) -> AllNamed {
        let Self {
            version: _,
            name: _,
            summary: _,
            owner: _,
            severity: _,
            environments: _,
            strategy: _,
            connections,
            credentials,
            phases,
            gates,
            limits: _,
            // Read on this machine while planning; not sent anywhere.
            approvals: _,
            cadence: _,
            windows: _,
            // A channel that is down, or a program of one that is missing, refuses no run.
            notify: _,
        } = self;
        let mut all = AllNamed::default();
        for (name, connection) in connections {
            // What the environment says in its stead is looked at by the connection itself.
            if let Some(url) = connection.address() {
                all.address(url, &format!("connection {name}"));
            }
        }
        credentials.iter().for_each(|(name, credential)| all.credential(name, credential));
        let Phases { prepare, distribute, verify, cutover, overlap, sunset, revoke, proof } = phases;
        let phases = [prepare, distribute, verify, cutover, overlap, sunset, revoke, proof];
        phases.into_iter().flatten().for_each(|phase| all.phase(phase));
        for (name, gate) in gates {
            let place = format!("gate {name}");
            gate.names().into_iter().for_each(|names| all.names(names, &place));
        }
        all
    }
}

impl AllNamed {
    fn credential(&mut self, name: &str, credential: &Credential) {
        let Credential { issuer, scope: _, stores, outgoing: _, consumers, accepts, rejects, after: _ } =
            credential;
        let at = |what: &str| format!("credential {name}, {what}");
        for (what, names) in issuer.names() {
            self.names(names, &at(what));
        }
        for store in stores {
            store.names().into_iter().for_each(|names| self.names(names, &at(store.kind().name)));
        }
        for Consumer { name, reload, attest } in consumers {
            if let Some(call) = reload {
                self.call(call, &at(&format!("reload of {name}")));
            }
            let place = at(&format!("attest of {name}"));
            let names = attest.iter().flat_map(|attest| attest.names());
            names.for_each(|names| self.names(names, &place));
        }
        for (what, probes) in [("accepts", Some(accepts)), ("rejects", rejects.as_ref())] {
            for names in probes.into_iter().flatten().flat_map(|probe| probe.names()) {
                self.names(names, &at(what));
            }
        }
    }

    fn names(&mut self, names: Names<'_>, place: &str) {
        match names {
            Names::Program(argv) => self.program(argv, place),
            Names::Exec(exec) => self.exec(exec, place),
            Names::Call(call) => self.call(call, place),
            Names::Address(url) => self.address(url, place),
            // What looks at addresses looks at hosts and ports.
            Names::Server(server) => self.address(&format!("https://{server}"), place),
        }
    }

    fn phase(&mut self, phase: &PhaseSpec) {
        let PhaseSpec { at_least: _, at_most: _, until: _, times: _, every: _, watch: _, before, after } =
            phase;
        for OwnStep { name, exec, http, credential: _, manual: _, undo, class: _, observe } in
            before.iter().chain(after)
        {
            let at = |what: &str| format!("step {name}{what}");
            exec.iter().for_each(|exec| self.exec(exec, &at("")));
            http.iter().for_each(|http| self.request(http, &at("")));
            match undo {
                Some(Undo::Exec(exec)) => self.exec(exec, &at(", undo")),
                Some(Undo::Http(http)) => self.request(http, &at(", undo")),
                Some(Undo::None | Undo::Manual(_)) | None => {}
            }
            observe.iter().for_each(|exec| self.exec(exec, &at(", observe")));
        }
    }

    fn call(&mut self, call: &Call, place: &str) {
        match call {
            Call::Exec(exec) => self.exec(exec, place),
            Call::Http(http) => self.request(http, place),
            Call::Sandbox {} => {}
        }
    }

    fn request(&mut self, request: &HttpCall, place: &str) {
        let HttpCall { method: _, url, bearer: _, body: _, content_type: _, timeout: _ } = request;
        self.address(url, place);
    }

    fn exec(&mut self, exec: &Exec, place: &str) {
        self.program(exec.argv(), place);
    }

    fn program(&mut self, argv: &[String], place: &str) {
        let (what, arguments) =
            argv.split_first().map(|(what, rest)| (what.clone(), rest.to_vec())).unwrap_or_default();
        self.programs.push(Named { what, arguments, place: place.to_owned() });
    }

    fn address(&mut self, url: &str, place: &str) {
        self.addresses.push(Named { what: url.to_owned(), arguments: Vec::new(), place: place.to_owned() });
    }
}

#[cfg(test)]
mod tests {
    use crate::runbook::{Source, check};

    #[test]
    fn every_program_and_every_address_is_named() {
        let text = "version: 1
name: t
environments: {production: {}}
connections:
  v: {type: vault, address: 'https://c1/'}
  a: {type: aws, account: '111111111111', endpoint_url: 'https://c2/'}
credentials:
  pw:
    issuer: {type: random, length: 40, apply: {exec: [p1, x]}, revoke: {http: {url: 'https://h1/'}}}
    stores:
      - {type: file, path: f, format: text}
      - {type: pass-through, argv: [p11, x], place: p, reads: true, conditional: true}
    consumers:
      - {name: a, reload: {exec: {argv: [p2]}}, attest: {http: {urls: ['https://h2/', 'https://h3/'], fingerprint: /f}}}
      - {name: b, reload: {http: {url: 'https://h4/'}}, attest: {exec: {argv: [p3]}}}
      - {name: c, attest: {http: {url: 'https://h5/', fingerprint: /f}}}
    accepts: [{exec: [p4]}, {http: {url: 'https://h6/', bearer: true}}]
    rejects: [{exec: [p5]}, {http: {url: 'https://h7/', bearer: true}}]
  key:
    issuer: {type: iam-access-key, connection: a, user: u}
    stores: [{type: kv2, connection: v, mount: m, path: p, fields: {access_key_id: i, secret_access_key: s}}]
gates:
  g: {exec: {argv: [p6]}}
  h: {http: {url: 'https://h8/', json: /n, at_most: 1}}
phases:
  overlap:
    until: [g, h]
    before: [{name: s1, exec: [p7], undo: {exec: [p8]}, observe: [p9]}]
    after: [{name: s2, http: {url: 'https://h9/'}, undo: {http: {url: 'https://h10/'}}}]
  proof:
    after: [{name: s3, exec: [p10]}]
";
        let checked = check(&Source { name: "t".into(), text: text.into() });
        let runbook = checked.runbook.expect("a good runbook").instantiate("production").expect("filled in");
        let named = runbook.named();
        let words = |of: &[super::Named]| of.iter().map(|n| n.what.clone()).collect::<Vec<_>>().join(" ");
        assert_eq!(words(&named.programs), "p1 p11 p2 p3 p4 p5 p7 p8 p9 p10 p6");
        let hosts = "c2 c1 h1 h2 h3 h4 h5 h6 h7 h9 h10 h8";
        assert_eq!(words(&named.addresses).replace("https://", "").replace('/', ""), hosts);
        assert_eq!(named.programs[2].place, "credential pw, reload of a");
        assert_eq!(named.programs[7].place, "step s1, undo");
        // A program in the text that the list does not have would be a field that nobody looked at.
        assert_eq!(text.matches("[p").count(), named.programs.len());
        assert_eq!(text.matches("https://").count(), named.addresses.len());
    }
}
