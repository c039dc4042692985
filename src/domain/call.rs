//! What a runbook may call: programs and requests.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Period;

/// Something to call: a program, a request, or the sandbox.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Call {
    /// A program and its arguments, without a shell. Exit status 0 is success. A credential, where
    /// there is one, comes on standard input, never in an argument or the environment.
    Exec(Exec),
    /// A request.
    Http(HttpCall),
    /// The sandbox: consumers reload at once.
    Sandbox {},
}

/// A program to run: a list of arguments, or that list with options.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Exec {
    /// The program and its arguments.
    Argv(#[schemars(length(min = 1))] Vec<String>),
    /// With options.
    Full(ExecOptions),
}

/// A program to run, with options.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecOptions {
    /// The program and its arguments.
    #[schemars(length(min = 1))]
    pub argv: Vec<String>,
    /// How long it may take; `limits.deadline` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
    /// What standard input gets: the bare value, or a JSON object of all parts.
    #[serde(default)]
    pub input: ExecInput,
}

/// What a program gets on standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExecInput {
    /// The value itself, without a newline.
    #[default]
    Value,
    /// A JSON object of all parts.
    Json,
}

/// A request to send.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpCall {
    /// The method.
    #[serde(default = "post")]
    pub method: HttpMethod,
    /// The address.
    pub url: String,
    /// Sends the credential as `Authorization: Bearer`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bearer: bool,
    /// The body; `${secret}` means the value, `${secret.PART}` one of its parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The body's type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// How long it may take; `limits.deadline` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
}

/// The methods that runbooks may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::IntoStaticStr)]
#[serde(rename_all = "UPPERCASE")]
#[strum(serialize_all = "UPPERCASE")]
#[expect(missing_docs, reason = "RFC 9110 defines them")]
pub enum HttpMethod {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
}

impl HttpMethod {
    /// The method's name on the wire.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

impl Exec {
    /// The program and its arguments.
    pub fn argv(&self) -> &[String] {
        match self {
            Self::Argv(argv) => argv,
            Self::Full(options) => &options.argv,
        }
    }

    /// How long it may take, where that is said.
    pub fn timeout(&self) -> Option<Period> {
        match self {
            Self::Argv(_) => None,
            Self::Full(options) => options.timeout,
        }
    }

    /// What standard input gets.
    pub fn input(&self) -> ExecInput {
        match self {
            Self::Argv(_) => ExecInput::Value,
            Self::Full(options) => options.input,
        }
    }
}

fn post() -> HttpMethod {
    HttpMethod::Post
}
