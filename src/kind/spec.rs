//! What each kind answers about itself, by the runbook's words alone. Pure: the servers stand elsewhere.
//!
//! A method without a default is a question that a new kind must answer before it compiles.

use std::borrow::Cow;
use std::fmt::Debug;
use std::marker::PhantomData;
use std::time::Duration;

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::domain::{Call, Exec, IssuerTraits, Period, Scope, StoreTraits};
use crate::runbook::read::finding::Finding;
use crate::runbook::read::tree::{Entry, Node};
use crate::secret::Recipe;

/// A part that an issuer's credentials are made of. Stores and probes rely on its name.
pub type Part = &'static str;

/// The user name of a login.
pub(in crate::kind) const USERNAME: Part = "username";
/// The password of a login.
pub(in crate::kind) const PASSWORD: Part = "password";
/// A login in one URI.
pub(in crate::kind) const URI: Part = "uri";
/// How many characters of a new login's name are random. Of sixteen each: two logins never get the same name.
pub(in crate::kind) const RANDOM: usize = 10;

/// Finds mistakes that the schema cannot say, in the credential (or gate) and the node of a kind in it. The node may
/// have any shape: what the schema says of it is reported elsewhere.
pub(crate) type Mistakes = fn(&Entry, &Node, &mut Vec<Finding>);

/// For kinds of which the schema says everything.
pub(crate) fn no_findings(_: &Entry, _: &Node, _: &mut Vec<Finding>) {}

/// For issuers whose new credential reaches nobody by itself.
pub(crate) fn never_delivers(_: &Node) -> bool {
    false
}

/// A kind of connection, gate, attestation or check, as the lists of `kind` hold it.
#[derive(Clone, Copy)]
pub struct Kind {
    /// The word after `type:` in a runbook, or the key in its place.
    pub name: &'static str,
    pub(crate) check: Mistakes,
}

impl Kind {
    /// A kind of which the schema says everything.
    pub const fn named(name: &'static str) -> Self {
        Self { name, check: no_findings }
    }
}

/// A kind of issuer, as its list holds it. Nothing here has a default: a new kind answers all of it.
#[derive(Debug, Clone, Copy)]
pub struct IssuerKind {
    /// The word after `type:` in a runbook.
    pub name: &'static str,
    /// Its chapter of `docs/kinds.md`.
    pub page: &'static str,
    /// The runbook that `stanch init --kind` writes. Its first line is a comment that says what it does.
    pub scaffold: &'static str,
    /// What its credentials are made of.
    pub parts: &'static [Part],
    /// What `scope` means to it.
    pub scope: ScopeRules,
    /// Whether its issuer brings the new credential to where it is used, from the issuer's node: then a runbook
    /// needs no store for it.
    pub(crate) delivers: fn(&Node) -> bool,
    /// What `stanch revoke` needs to know to revoke such credentials by their handles; `None` where the authority
    /// does not know them by one.
    pub(crate) bare: Option<Bare>,
    pub(crate) check: Mistakes,
}

/// How an issuer is described that only revokes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bare {
    /// The type of its connection, which takes everything else from the environment.
    pub(crate) family: &'static str,
    /// The fields that a person gives.
    pub(crate) needs: &'static [&'static str],
    /// The fields that matter to `issue` alone, each as JSON.
    pub(crate) rest: &'static [(&'static str, &'static str)],
    /// How its handles are written.
    pub(crate) handles: Handles,
}

/// How handles are written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Handles {
    /// In one word.
    Word,
    /// With any characters but control characters.
    Text,
    /// As a path, for all that is below it: in its one spelling, or why stanch refuses it. What is below it is listed
    /// before it is revoked, and goes into the plan.
    #[cfg_attr(not(feature = "tool"), expect(dead_code, reason = "the command line asks it"))]
    Prefix(fn(&str) -> Result<String, String>),
}

impl IssuerKind {
    /// Whether its handles name all that is below a path.
    pub(crate) fn takes_prefixes(&self) -> bool {
        matches!(self.bare, Some(Bare { handles: Handles::Prefix(_), .. }))
    }
}

/// A kind of store, as its list holds it. Nothing here has a default.
#[derive(Clone, Copy)]
pub struct StoreKind {
    /// The word after `type:` in a runbook.
    pub name: &'static str,
    /// Its chapter of `docs/kinds.md`.
    pub page: &'static str,
    pub(crate) check: Mistakes,
    /// What two stores of a runbook may not both write, without the field: from the store's node and its
    /// connection's. `None` where that cannot be said.
    pub(crate) place: fn(&Node, Option<&Node>) -> Option<Vec<String>>,
    /// What a field of such a store leads to, from the store's node and the field's spelling there: the same for
    /// every spelling of one field.
    pub(crate) field: fn(&Node, &str) -> Vec<String>,
}

/// For stores in which a field has one spelling.
pub(crate) fn as_written(_: &Node, field: &str) -> Vec<String> {
    vec![field.to_owned()]
}

/// What a list of kinds is searched by.
pub trait Named {
    /// The word in the runbook.
    fn name(&self) -> &'static str;
}

impl Named for Kind {
    fn name(&self) -> &'static str {
        self.name
    }
}

impl Named for IssuerKind {
    fn name(&self) -> &'static str {
        self.name
    }
}

impl Named for StoreKind {
    fn name(&self) -> &'static str {
        self.name
    }
}

/// The keyword of the schema that says which type of connection a field names.
pub(crate) const CONNECTION: &str = "x-connection";

/// A `connection:` field: the name of a connection to a server of the family `F`. Its schema says the family, and
/// from there every such field is held against the runbook's `connections`, whatever has the field.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent, bound = "")]
pub struct On<F> {
    name: String,
    family: PhantomData<F>,
}

impl<F> On<F> {
    /// The connection's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl<F> From<&str> for On<F> {
    fn from(name: &str) -> Self {
        Self { name: name.to_owned(), family: PhantomData }
    }
}

impl<F: Family> JsonSchema for On<F> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("connection-{}", F::KIND.name).into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", (CONNECTION): F::KIND.name })
    }
}

/// What `scope` means to a kind of issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScopeRules {
    /// Whether its credentials expire, so that `scope.max_ttl` is required.
    pub expires: Expires,
    /// The fields of `scope` that its issuer keeps nothing of, so that they would be compared with nothing.
    pub ignored: &'static [&'static str],
}

impl ScopeRules {
    /// A credential that lives until it is revoked, and of which nothing is compared.
    pub const NEVER_EXPIRES: Self = Self { expires: Expires::Never, ignored: &["audience", "policies"] };
}

/// Whether a kind's credentials expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expires {
    /// Always.
    Always,
    /// Where the runbook gives it a `ttl`.
    WithTtl,
    /// Never.
    Never,
}

/// What of an issuer a person is to look at.
#[derive(Debug, Clone, Copy)]
pub struct IssuerLook<'a> {
    /// The run that is in doubt.
    pub run: &'a str,
    /// The step's id.
    pub step: &'a str,
    /// When the step was first tried.
    pub since: Option<Timestamp>,
    /// The question.
    pub about: IssuerDoubt<'a>,
}

/// What is not known of an issuer.
#[derive(Debug, Clone, Copy)]
pub enum IssuerDoubt<'a> {
    /// Whether it made the new credential; these it had before.
    Issued {
        /// Handles that are older than the run.
        known: &'a [String],
    },
    /// Whether a credential is as it should have become.
    Life {
        /// The credential; `None` where even that is not known.
        handle: Option<&'a str>,
        /// `gone`, `disabled` or `active again`.
        wanted: &'a str,
    },
}

/// What of a store a person is to look at.
#[derive(Debug, Clone, Copy)]
pub struct StoreLook<'a> {
    /// When the step was first tried.
    pub since: Option<Timestamp>,
    /// The version that was current before the run.
    pub before: Option<&'a str>,
    /// What was tried.
    pub change: StoreChange,
}

/// What a step does to a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreChange {
    /// Puts the new value there, not yet current.
    Stage,
    /// Makes a value current.
    Promote,
    /// Destroys the old version.
    Destroy,
}

/// How the sandbox plays an issuer.
#[derive(Debug, Clone, Default)]
pub struct StandIn {
    /// Whose credentials they are; the credential's own name where it is left out.
    pub principal: Option<String>,
    /// What they may do.
    pub policies: Vec<String>,
    /// How long they live.
    pub ttl: Option<Period>,
    /// How many may be alive at once.
    pub coexist: Option<usize>,
    /// What a generated value is made of; else the issuer mints.
    pub recipe: Option<Recipe>,
    /// Whether who uses one gets a login of its own, which lives on when the credential is deleted, and is ended by
    /// itself.
    pub logins: bool,
}

/// A program or an address that the runbook names.
#[derive(Debug, Clone, Copy)]
pub enum Names<'a> {
    /// A program and its arguments.
    Program(&'a [String]),
    /// A program with options.
    Exec(&'a Exec),
    /// A program or a request.
    Call(&'a Call),
    /// An http address.
    Address(&'a str),
    /// A server that is spoken to by TLS, as `HOST:PORT`.
    Server(&'a str),
}

/// A type of connection.
pub trait Family: FamilySpec {
    /// Its entry in the list.
    const KIND: Kind;
}

/// A connection: a family of servers.
pub trait FamilySpec: Debug + Send + Sync {
    /// Its entry in the list.
    fn kind(&self) -> &'static Kind;

    /// The server's address, where the runbook says it.
    fn address(&self) -> Option<&str>;

    /// How long each call takes in the sandbox.
    fn latency(&self) -> Option<Period> {
        None
    }
}

/// An issuer, as a runbook describes it.
pub trait IssuerSpec: Debug + Send + Sync {
    /// Its entry in the list.
    fn kind(&self) -> &'static IssuerKind;

    /// What its credentials are made of: by default what its entry says, and less where the runbook asks for one
    /// value that holds everything.
    fn parts(&self) -> &'static [Part] {
        self.kind().parts
    }

    /// The connection that it is reached by.
    fn connection(&self) -> Option<&str>;

    /// What it can do, in the sandbox as well: a drill meets what a real rotation meets.
    fn traits(&self) -> IssuerTraits;

    /// Whether its server finds whatever carries a run's tag in one look, for all credentials of the
    /// connection at once; else each credential has to be looked at by itself.
    fn finds_by_run(&self) -> bool;

    /// Where a person looks, and for what, when nothing else can say what became of a call.
    fn look(&self, look: &IssuerLook<'_>) -> String;

    /// What no check covers, or is worth knowing before a run, of the credential with this name: each a sentence.
    fn gaps(&self, name: &str, scope: &Scope) -> Vec<String>;

    /// For how long others may go by what they read at its issuer before, so that a credential is used no sooner than
    /// this after it was issued, and counts as refused no sooner than this after it was disabled. Nothing, as by
    /// default, where the issuer itself is asked each time.
    fn settles(&self) -> Period {
        Period::default()
    }

    /// What a revocation leaves alive, or is worth knowing before one that replaces nothing: each a sentence. Nothing,
    /// as by default, where everything that came from a credential dies with it.
    fn lasting(&self) -> Vec<String> {
        Vec::new()
    }

    /// How the sandbox plays it: never kinder than the real one.
    fn stand_in(&self, scope: &Scope) -> StandIn;

    /// What it names outside of the runbook, each with the field that names it.
    fn names(&self) -> Vec<(&'static str, Names<'_>)> {
        Vec::new()
    }
}

/// A store, as a runbook describes it.
pub trait StoreSpec: Debug + Send + Sync {
    /// Its entry in the list.
    fn kind(&self) -> &'static StoreKind;

    /// What it can do.
    fn traits(&self) -> StoreTraits;

    /// What it writes, for people and for telling targets apart.
    fn target(&self) -> String;

    /// What the sandbox calls its secret.
    fn stand_in(&self) -> String;

    /// Where a person looks, and for what, when nothing else can say what became of a call.
    fn look(&self, look: &StoreLook<'_>) -> String;

    /// What no check covers, or is worth knowing before a run, of the credential with this name: each a sentence.
    /// Nothing, as by default, where who reads the store gets the new value or says which one it has.
    fn gaps(&self, _name: &str) -> Vec<String> {
        Vec::new()
    }

    /// Its path, where it is on this machine: somebody may have moved what the path leads to.
    fn local_path(&self) -> Option<&str> {
        None
    }

    /// What it names outside of the runbook.
    fn names(&self) -> Vec<Names<'_>> {
        Vec::new()
    }
}

/// A condition between phases, as a runbook describes it.
pub trait GateSpec: Debug + Send + Sync {
    /// Its entry in the list.
    fn kind(&self) -> &'static Kind;

    /// How often it is asked.
    fn every(&self) -> Duration;

    /// What it names outside of the runbook.
    fn names(&self) -> Vec<Names<'_>>;

    /// The credential whose old version it asks about; `None`, as by default, where it asks about none.
    fn about(&self) -> Option<&str> {
        None
    }

    /// The share of refused calls above which it fails in the sandbox, where the real gate's subject does not
    /// exist and errors of consumers do.
    fn stand_in(&self) -> f64 {
        0.0
    }
}

/// How a consumer says what it uses.
pub trait AttestSpec: Debug + Send + Sync {
    /// Its entry in the list.
    fn kind(&self) -> &'static Kind;

    /// What it names outside of the runbook.
    fn names(&self) -> Vec<Names<'_>>;

    /// How many instances the consumer has in the sandbox.
    fn instances(&self) -> usize {
        1
    }
}

/// A check against a relying party, as a runbook describes it.
pub trait ProbeSpec: Debug + Send + Sync {
    /// Its entry in the list.
    fn kind(&self) -> &'static Kind;

    /// What it names outside of the runbook.
    fn names(&self) -> Vec<Names<'_>>;

    /// What it asks the credential for in the sandbox.
    fn policy(&self) -> Option<&str> {
        None
    }

    /// Whom it asks, for people: the first address or program that it names.
    fn asks(&self) -> Option<String> {
        match self.names().first()? {
            Names::Address(place) | Names::Server(place) => Some((*place).to_owned()),
            Names::Program(argv) => argv.first().cloned(),
            Names::Exec(exec) => exec.argv().first().cloned(),
            Names::Call(_) => None,
        }
    }
}

/// When a change that is looked for was made.
pub(crate) fn after(since: Option<Timestamp>) -> String {
    since.map(|at| format!(" at {at:.0} or later")).unwrap_or_default()
}
