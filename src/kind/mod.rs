//! The kinds: of connections, issuers, stores, gates, attestations and checks.
//!
//! Each list below makes the enum that runbooks are read into, and the table that everything else asks. A new
//! kind is a folder and a line here; what it must answer is in `spec`.

pub mod api;
pub mod aws;
#[cfg(feature = "tool")]
mod clocks;
#[cfg(feature = "tool")]
mod consumer;
pub mod exec;
pub mod file;
pub mod github;
pub mod gitlab;
pub mod http;
pub mod jwt;
#[cfg(feature = "tool")]
mod key_pair;
pub mod kubernetes;
#[cfg(feature = "tool")]
mod login;
pub mod mysql;
pub mod pass_through;
pub mod postgres;
pub mod prometheus;
pub mod random;
#[cfg(feature = "tool")]
pub mod real;
pub mod redis;
pub mod sandbox;
pub mod set;
pub mod spec;
pub mod ssh;
pub mod tls;
pub mod vault;

use std::collections::BTreeMap;
use std::ops::Deref;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{Call, Exec, HttpCall, Period};
use crate::runbook::read::tree::Node;
use crate::text::shell_word;

use self::spec::{
    AttestSpec, Family as _, FamilySpec, GateSpec, IssuerKind, IssuerSpec, Kind, Named, ProbeSpec, StoreKind,
    StoreSpec,
};

/// Makes an enum of kinds, the one match over it, and the table of the kinds.
macro_rules! kinds {
    (
        $(#[$meta:meta])*
        $name:ident as $spec:ident + $server:ident, $table:ident of $kind:ident:
        $($variant:ident => $($path:ident)::+),+ $(,)?
        $(; outside of runbooks, $outside:ident: $($extra:ident => $($extra_path:ident)::+),+ $(,)?)?
    ) => {
        #[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
        $(#[$meta])*
        pub enum $name {
            $(#[expect(missing_docs, reason = "its kind says it")] $variant($($path)::+),)+
            $($(#[expect(missing_docs, reason = "its kind says it")] #[schemars(skip)] $extra($($extra_path)::+),)+)?
        }

        impl Deref for $name {
            type Target = dyn $spec;

            fn deref(&self) -> &Self::Target {
                match self {
                    $(Self::$variant(spec) => spec,)+
                    $($(Self::$extra(spec) => spec,)+)?
                }
            }
        }

        #[doc = concat!("Every kind of `", stringify!($name), "` that a runbook can name.")]
        pub const $table: &[&$kind] = &[$(&<$($path)::+>::KIND),+];

        $(
            #[doc = concat!("The kinds of `", stringify!($name), "` that no runbook can name.")]
            pub const $outside: &[&$kind] = &[$(&<$($extra_path)::+>::KIND),+];
        )?
    };
}

macro_rules! families {
    ($make:ident) => {
        $make! {
            /// A server, and how to reach it. Tokens and keys do not belong here: they come from the
            /// environment, as the server's own tools take them.
            #[serde(tag = "type", rename_all = "kebab-case")]
            Connection as FamilySpec + FamilyServer, FAMILIES of Kind:
            Vault => vault::Vault,
            Aws => aws::Aws,
            Postgres => postgres::Postgres,
            Mysql => mysql::Mysql,
            Redis => redis::Redis,
            Api => api::Api,
            Kubernetes => kubernetes::Kubernetes,
            Gitlab => gitlab::Gitlab,
            Github => github::Github,
            Sandbox => sandbox::World,
        }
    };
}
families!(kinds);
#[cfg(feature = "tool")]
pub(crate) use families;

macro_rules! issuers {
    ($make:ident) => {
        $make! {
            /// Who issues a credential.
            #[serde(tag = "type", rename_all = "kebab-case")]
            Issuer as IssuerSpec + IssuerServer, ISSUERS of IssuerKind:
            Sandbox => sandbox::SandboxIssuer,
            Random => random::Random,
            VaultToken => vault::token::VaultToken,
            ApproleSecretId => vault::approle::ApproleSecretId,
            VaultUserpass => vault::userpass::VaultUserpass,
            VaultPki => vault::pki::VaultPki,
            VaultDatabase => vault::database::VaultDatabase,
            IamAccessKey => aws::access_key::IamAccessKey,
            PostgresRole => postgres::role::PostgresRole,
            MysqlUser => mysql::user::MysqlUser,
            RedisAclUser => redis::user::RedisAclUser,
            JwtSigningKey => jwt::JwtSigningKey,
            SshKey => ssh::key::SshKey,
            TokenApi => api::token::TokenApi,
            ; outside of runbooks, PREFIXES:
            VaultPrefix => vault::prefix::VaultPrefix,
            LeasePrefix => vault::prefix::LeasePrefix,
        }
    };
}
issuers!(kinds);
#[cfg(feature = "tool")]
pub(crate) use issuers;

macro_rules! stores {
    ($make:ident) => {
        $make! {
            /// A versioned place that consumers read from.
            #[serde(tag = "type", rename_all = "kebab-case")]
            Store as StoreSpec + StoreServer, STORES of StoreKind:
            Sandbox => sandbox::SandboxStore,
            Kv2 => vault::kv2::Kv2,
            Secretsmanager => aws::secretsmanager::Secretsmanager,
            SsmParameter => aws::ssm_parameter::SsmParameter,
            KubernetesSecret => kubernetes::secret::KubernetesSecret,
            GitlabCiVariable => gitlab::variable::GitlabCiVariable,
            GithubActionsSecret => github::secret::GithubActionsSecret,
            File => file::File,
            PassThrough => pass_through::PassThrough,
        }
    };
}
stores!(kinds);
#[cfg(feature = "tool")]
pub(crate) use stores;

macro_rules! attestations {
    ($make:ident) => {
        $make! {
            /// How a consumer says which version of a credential it uses.
            #[serde(rename_all = "lowercase")]
            Attest as AttestSpec + AttestServer, ATTESTATIONS of Kind:
            Http => http::HttpAttest,
            Exec => exec::ExecAttest,
            Tls => tls::TlsAttest,
            Sandbox => sandbox::SandboxAttest,
        }
    };
}
attestations!(kinds);
#[cfg(feature = "tool")]
pub(crate) use attestations;

macro_rules! probes {
    ($make:ident) => {
        $make! {
            /// A check against a relying party that uses the credential.
            #[serde(rename_all = "lowercase")]
            Probe as ProbeSpec + ProbeServer, PROBES of Kind:
            Http => http::HttpProbe,
            Exec => exec::ExecProbe,
            Ssh => ssh::login::SshLogin,
            Tls => tls::TlsProbe,
            Sandbox => sandbox::SandboxProbe,
        }
    };
}
probes!(kinds);
#[cfg(feature = "tool")]
pub(crate) use probes;

macro_rules! gates {
    ($make:ident) => {
        $make! {
            /// A condition between phases.
            #[serde(rename_all = "kebab-case")]
            Gate as GateSpec + GateServer, GATES of Kind:
            Http => http::HttpGate,
            Prometheus => prometheus::PrometheusGate,
            PgActivity => postgres::activity::PgActivity,
            Exec => exec::ExecGate,
            Sandbox => sandbox::SandboxGate,
        }
    };
}
gates!(kinds);
#[cfg(feature = "tool")]
pub(crate) use gates;

/// The kind with this name.
pub fn named<K: Named>(table: &[&'static K], name: Option<&str>) -> Option<&'static K> {
    table.iter().copied().find(|kind| Some(kind.name()) == name)
}

/// A server, by what its connection says and not by its name, without these fields.
fn server(store: &Node, connection: Option<&Node>, without: &[&str]) -> Option<String> {
    let name = store.text_of("connection")?;
    let mut server = connection.map_or_else(|| name.into(), Node::to_json);
    if let Some(fields) = server.as_object_mut() {
        without.iter().for_each(|field| drop(fields.remove(*field)));
    }
    Some(server.to_string())
}

/// A path in a store, without the slashes around it.
fn path(store: &Node, key: &str) -> Option<String> {
    Some(store.text_of(key)?.trim_matches('/').to_owned())
}

/// Which fields a store writes, as its target shows them.
fn fields(field: &Option<String>, fields: &BTreeMap<String, String>) -> String {
    match field {
        Some(field) => format!("#{field}"),
        None if fields.is_empty() => String::new(),
        None => format!("#{}", fields.values().cloned().collect::<Vec<_>>().join(",")),
    }
}

/// A program with its arguments, as a shell takes them.
pub(crate) fn argv_words(exec: &Exec) -> String {
    exec.argv().iter().map(|a| shell_word(a)).collect::<Vec<_>>().join(" ")
}

/// What the runbook calls, in its own words; whether it did its work only its owner knows.
pub(crate) fn called(exec: Option<&Exec>, http: Option<&HttpCall>) -> String {
    match (exec, http) {
        (Some(exec), _) => format!("the step runs `{}`: check whether that worked", argv_words(exec)),
        (None, Some(http)) => {
            format!("the step sends {} {}: check there whether that worked", http.method.name(), http.url)
        }
        (None, None) => "the step calls nothing: nothing can have changed".into(),
    }
}

fn call_words(call: &Call) -> String {
    match call {
        Call::Exec(exec) => called(Some(exec), None),
        Call::Http(http) => called(None, Some(http)),
        Call::Sandbox {} => "look into the sandbox's data, in the state directory".into(),
    }
}

fn yes() -> bool {
    true
}

/// Whether a field needs not be written.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn one() -> u32 {
    1
}

fn every() -> Period {
    Period::seconds(5)
}
