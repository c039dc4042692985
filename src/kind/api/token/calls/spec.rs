//! The calls of an API. `{name}` in a path, a query or a body is filled in (`template`).

use std::collections::BTreeMap;
use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::HttpMethod;
use crate::kind::{is_default, yes};

/// The calls of an API that stanch needs for its tokens. In a path, a query and a body `{NAME}` is replaced by a value of `with`, and `{id}`
/// by the token's id; in the body of `create` `{tag}` by the name that stanch finds it by, `{expires.date}` and
/// `{expires.time}` by its end. Pointers are JSON pointers into the response.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Calls {
    /// Creates a token, and returns it.
    pub create: Create,
    /// Returns what the server knows of a token, to the operator.
    pub inspect: Inspect,
    /// Revokes a token forever.
    pub revoke: Change,
    /// Disables a token reversibly. Needs `enable`, and `disabled` of `inspect`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable: Option<Change>,
    /// Enables a token that was disabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable: Option<Change>,
    /// Lists the tokens, to the operator. A token whose response was lost is found here by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<List>,
    /// A request with the token itself, without side effects: shows whether the server accepts the token.
    #[serde(rename = "self")]
    pub itself: Itself,
    /// Whether old and new can be valid at once.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub coexists: bool,
}

fn is_yes(value: &bool) -> bool {
    *value
}

/// Values of a query, by name.
pub(crate) type Query = BTreeMap<String, String>;

/// The call that creates a token.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Create {
    /// The method.
    #[serde(default = "post")]
    pub method: HttpMethod,
    /// The path, added to the address of the connection.
    pub path: String,
    /// The query.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub query: Query,
    /// The JSON body. `{tag}` in it makes the token one that stanch finds again.
    #[serde(default, skip_serializing_if = "is_default")]
    pub body: BTreeMap<String, Value>,
    /// The pointer to the token.
    pub secret: String,
    /// The pointer to its id, a string or a number.
    pub id: String,
}

fn post() -> HttpMethod {
    HttpMethod::Post
}

/// The call that returns what is known of a token. `{id}` belongs in its path or query.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Inspect {
    /// The path.
    pub path: String,
    /// The query.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub query: Query,
    /// What a response says of a token that is valid.
    pub alive: Sign,
    /// What it says of one that is disabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<Sign>,
    /// What it says of one that is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<Sign>,
    /// The statuses (404, 410) of a token that is not there any more. They count only beside a control: the server returns `list`
    /// without this token, and returns another token of it. Needs `list`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone_status: Vec<u16>,
    /// The pointer to the time when the token was created: RFC 3339, a date (its first minute, UTC), or seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The pointer to the time when it expires, in the same forms; `null` means never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// The pointer to the list of its scopes. They are compared with `scope.policies`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<String>,
    /// The pointer to the time when it was last used; `null` means never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<String>,
}

/// What a response has at a pointer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sign {
    /// The pointer.
    pub at: String,
    /// The value there. A list means any of these.
    pub is: Value,
}

impl Sign {
    /// The values that it stands for.
    pub(in crate::kind) fn values(&self) -> &[Value] {
        match &self.is {
            Value::Array(any) => any,
            one => std::slice::from_ref(one),
        }
    }
}

/// A call that changes a token. `{id}` belongs in its path, query or body.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The method.
    pub method: HttpMethod,
    /// The path.
    pub path: String,
    /// The query.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub query: Query,
    /// Sends back what `inspect` returns, changed by `body`: for an API that replaces a token's settings as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<Over>,
    /// The JSON body, or the fields of it that change.
    #[serde(default, skip_serializing_if = "is_default")]
    pub body: BTreeMap<String, Value>,
}

/// What of the response to `inspect` is sent back.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Over {
    /// The pointer to the object; without it the response is the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Its fields that are not sent back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<String>,
}

/// The call that lists the tokens.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// The path.
    pub path: String,
    /// The query.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub query: Query,
    /// The pointer to the list of tokens in the response; without it the response is the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<String>,
    /// The pointer to the id, in an item.
    pub id: String,
    /// The pointer to the name that `create` gave to it, in an item.
    pub name: String,
    /// The pointer to the token's beginning and end with `...` or `***` between them, in an item. Needed where `self` has no `id`: the
    /// old token is recognised by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shows: Option<String>,
    /// How the next page is asked for. Without it the response is the whole list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Next>,
}

/// How the next page of a list is asked for. Exactly one of `header`, `at` and `pages` is needed.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Next {
    /// The field of the query.
    pub query: String,
    /// The header of a response that has its next value. The last page has it without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// The pointer to its next value. On the last page it is null or empty, unless `more` says which page is the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// The pointer to `true` where there is another page, and `false` on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<String>,
    /// The pointer to the number of pages; they are counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pages: Option<String>,
}

/// A request with the token itself.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Itself {
    /// The path.
    pub path: String,
    /// The query.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub query: Query,
    /// The pointer to the token's own id. Without it the token is recognised by `shows` of `list`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What a response says of a token that is accepted, where the status 200 alone does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Sign>,
    /// What it says of one that is disabled. It counts only while `inspect` says so, too: what a success says of itself does not prove
    /// that a token is dead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<Sign>,
    /// The statuses that mean *refused*. Any other status but 2xx is neither.
    #[serde(default = "unauthorized")]
    pub refuse: Vec<u16>,
}

fn unauthorized() -> Vec<u16> {
    vec![401]
}

/// A service whose calls stanch knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// An access token of a project of GitLab.
    GitlabProjectToken,
    /// A token of a user of Cloudflare.
    CloudflareUserToken,
    /// An admin key of an organisation of `OpenAI`.
    OpenaiAdminKey,
}

/// What a preset's file says.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// The vendor's server, for people.
    pub server: String,
    /// What a plan says of it: each a sentence.
    pub gaps: Vec<String>,
    /// Its calls.
    pub calls: Calls,
}

static KNOWN: LazyLock<[Known; 3]> = LazyLock::new(|| {
    [
        include_str!("../presets/gitlab-project-token.yaml"),
        include_str!("../presets/cloudflare-user-token.yaml"),
        include_str!("../presets/openai-admin-key.yaml"),
    ]
    .map(|text| serde_saphyr::from_str(text).expect("a preset is what its test demands"))
});

impl Preset {
    /// Every preset.
    pub const ALL: [Self; 3] = [Self::GitlabProjectToken, Self::CloudflareUserToken, Self::OpenaiAdminKey];

    /// What its file says.
    pub fn known(self) -> &'static Known {
        &KNOWN[self as usize]
    }

    /// The word in the runbook.
    pub const fn name(self) -> &'static str {
        match self {
            Self::GitlabProjectToken => "gitlab-project-token",
            Self::CloudflareUserToken => "cloudflare-user-token",
            Self::OpenaiAdminKey => "openai-admin-key",
        }
    }
}
