//! The words of a runbook about an access key.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{IssuerTraits, Scope};
use crate::kind::aws::Aws;
use crate::kind::spec::{
    Bare, Expires, Handles, IssuerDoubt, IssuerKind, IssuerLook, IssuerSpec, On, ScopeRules, StandIn, after,
    no_findings,
};
use crate::text::shell_word;

/// IAM lets a user have this many access keys.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html>
const KEYS_OF_A_USER: usize = 2;

/// An access key of an IAM user. A user may have two.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IamAccessKey {
    /// A connection of type `aws`.
    pub connection: On<Aws>,
    /// The user's name.
    pub user: String,
}

impl IamAccessKey {
    pub(super) const TRAITS: IssuerTraits = IssuerTraits { disables: true, ..IssuerTraits::MINTING };

    pub(in crate::kind) const KIND: IssuerKind = IssuerKind {
        name: "iam-access-key",
        page: include_str!("page.md"),
        scaffold: include_str!("../../../../templates/runbooks/iam-access-key.yaml"),
        parts: &["access_key_id", "secret_access_key"],
        scope: ScopeRules { expires: Expires::Never, ignored: &["audience"] },
        delivers: crate::kind::spec::never_delivers,
        bare: Some(Bare { family: "aws", needs: &["user"], rest: &[], handles: Handles::Word }),
        check: no_findings,
    };
}

impl IssuerSpec for IamAccessKey {
    fn kind(&self) -> &'static IssuerKind {
        &Self::KIND
    }

    fn connection(&self) -> Option<&str> {
        Some(self.connection.name())
    }

    fn traits(&self) -> IssuerTraits {
        Self::TRAITS
    }

    fn finds_by_run(&self) -> bool {
        false
    }

    fn look(&self, look: &IssuerLook<'_>) -> String {
        let list = format!("`aws iam list-access-keys --user-name {}`", shell_word(&self.user));
        match look.about {
            IssuerDoubt::Issued { known: [] } => {
                format!("{list}: the key of this step was created{}", after(look.since))
            }
            IssuerDoubt::Issued { known } => {
                format!(
                    "{list}: the key of this step was created{} and is not one of {}",
                    after(look.since),
                    known.join(", ")
                )
            }
            IssuerDoubt::Life { handle, wanted } => {
                let handle = shell_word(handle.unwrap_or("(none)"));
                format!("{list}: it took effect if {handle} is {wanted}")
            }
        }
    }

    fn gaps(&self, name: &str, scope: &Scope) -> Vec<String> {
        let mut gaps = vec![format!(
            "{name}: sessions created with the old key (sts:AssumeRole, sts:GetSessionToken) stay valid for up to 36 hours; deny them on the user and the roles"
        )];
        if scope.policies.is_none() {
            gaps.push(format!(
                "{name}: `scope.policies` is not set, so stanch does not check the user's policies"
            ));
        }
        gaps
    }

    fn lasting(&self) -> Vec<String> {
        vec!["sessions created with a key (sts:AssumeRole, sts:GetSessionToken) stay valid for up to 36 hours; deny them on the user and the roles".to_owned()]
    }

    fn stand_in(&self, scope: &Scope) -> StandIn {
        StandIn {
            principal: Some(self.user.clone()),
            policies: scope.policies.clone().unwrap_or_default(),
            coexist: Some(KEYS_OF_A_USER),
            ..StandIn::default()
        }
    }
}
